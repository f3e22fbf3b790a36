"""Embeddings of pictures: torchvision's and transformers' own results, whatever shares the batch."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import v2

from ser_models.errors import UserError
from ser_models.features import build_view, video_embedding
from ser_models.features.media import MediaError
from ser_models.features.video_embedding import IMAGENET_MEAN, IMAGENET_STD, VideoEmbedding
from ser_models.features.views import parse_specs

CPU = torch.device("cpu")
GOLDEN_CROP = [[139, 199, 159], [142, 144, 202], [53, 129, 129]]


def scenes(count: int, height: int = 120, width: int = 150, seed: int = 0) -> list[np.ndarray]:
    """Smooth coloured pictures, the same everywhere."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.BICUBIC)) for each in small
    ]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised ResNet-18 as torchvision saves one."""
    torch.manual_seed(7)
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    path = tmp_path_factory.mktemp("resnet") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as transformers saves one."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(7)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(folder)
    return folder


def test_equal_to_torchvision(resnet: Path) -> None:
    """Its published preparation, and its own forward pass up to the classifier."""
    view = build_view("video_embedding", model="resnet18", checkpoint=str(resnet))
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    network.load_state_dict(torch.load(resnet, weights_only=True))
    pooled: list[torch.Tensor] = []
    network.avgpool.register_forward_hook(lambda _, __, output: pooled.append(output.flatten(1)))
    prepare = v2.Compose(
        [
            v2.Resize(256),
            v2.CenterCrop(224),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    pictures = [*scenes(2, 480, 361), *scenes(1, 300, 500)]
    with torch.inference_mode():
        network.eval()(torch.stack([prepare(Image.fromarray(picture)) for picture in pictures]))
    crops = view(pictures)
    assert crops.shape == (3, 224, 224, 3) and crops.dtype == np.uint8
    (found,) = view.load(CPU)([crops])
    assert found.shape == (3, 512) and found.dtype == np.float32 and view.shape == (512,)
    np.testing.assert_allclose(found, pooled[0], atol=1e-4 * float(pooled[0].max()))


def test_equal_to_transformers(vit: Path) -> None:
    from transformers import ViTModel

    view = build_view("video_embedding", model=str(vit), size=32, resize=40)
    crops = view(scenes(3))
    network = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255
    pixels = (pixels - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    with torch.inference_mode():
        states = network(pixel_values=pixels).last_hidden_state
    assert view.shape == (16,)
    np.testing.assert_allclose(view.load(CPU)([crops])[0], states.mean(1), atol=1e-5)
    first = build_view("video_embedding", model=str(vit), size=32, resize=40, pool="cls")
    np.testing.assert_allclose(first.load(CPU)([crops])[0], states[:, 0], atol=1e-5)


def test_a_convolutional_transformers_model_is_averaged(tmp_path: Path) -> None:
    from transformers import ConvNextConfig, ConvNextModel, ViTImageProcessor

    ConvNextModel(
        ConvNextConfig(hidden_sizes=[8, 8, 8, 12], depths=[1, 1, 1, 1], image_size=32)
    ).save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    view = build_view("video_embedding", model=str(tmp_path), size=32, resize=None)
    (found,) = view.load(CPU)([view(scenes(2))])
    assert found.shape == (2, 12)


def test_results_do_not_depend_on_the_batch(resnet: Path) -> None:
    def embed(batch: int, crops: list[np.ndarray]) -> list[np.ndarray]:
        view = build_view(
            "video_embedding", model="resnet18", checkpoint=str(resnet), size=64, batch_pictures=batch
        )
        return view.load(CPU)(crops)

    view = build_view("video_embedding", model="resnet18", checkpoint=str(resnet), size=64)
    crops = [view(scenes(count, seed=count)) for count in (3, 1, 7)]
    together = embed(32, crops)
    assert [len(each) for each in together] == [3, 1, 7]
    largest = max(float(each.max()) for each in together)
    for alone, among in zip(crops, together, strict=True):
        np.testing.assert_allclose(embed(32, [alone])[0], among, atol=1e-4 * largest)
        np.testing.assert_allclose(embed(2, [alone])[0], among, atol=1e-4 * largest)
    assert view.load(CPU)([]) == []


def test_golden_values(resnet: Path) -> None:
    """Change these only together with VideoEmbedding.VERSION: shards made before would pass for new ones."""
    assert VideoEmbedding.VERSION == 1
    crops = build_view("video_embedding", model="resnet18", checkpoint=str(resnet), resize=40, size=32)(
        scenes(2)
    )
    assert crops[0, [0, 10, 31], [0, 20, 31]].tolist() == GOLDEN_CROP


def test_half_precision_is_the_rounded_result(resnet: Path) -> None:
    full, half = (
        build_view("video_embedding", model="resnet18", checkpoint=str(resnet), size=64, precision=precision)
        for precision in ("float32", "float16")
    )
    crops = full(scenes(2))
    (expected,), (found,) = full.load(CPU)([crops]), half.load(CPU)([crops])
    assert found.dtype == np.float16 and half.dtype == "float16"
    np.testing.assert_array_equal(found, expected.astype(np.float16))


def test_three_pictures_a_second_and_at_most_32() -> None:
    view = build_view("video_embedding", checkpoint="download")
    np.testing.assert_allclose(view.times(2.0), np.arange(6) / 3)
    np.testing.assert_allclose(view.times(2.1), np.arange(7) / 3)
    assert view.times(0.01).tolist() == [0.0]
    assert len(view.times(3600.0)) == 32
    assert view.shape == (2048,)


def test_the_crop_without_resizing() -> None:
    view = build_view("video_embedding", checkpoint="download", resize=None, size=100)
    (picture,) = scenes(1)
    np.testing.assert_array_equal(view([picture])[0], picture[10:110, 25:125])
    with pytest.raises(MediaError, match="150 x 90 are smaller than the crop of 100 x 100"):
        view(scenes(1, 90))
    with pytest.raises(MediaError, match="no pictures"):
        view([])


def test_weights_are_named_by_their_content(resnet: Path, vit: Path, tmp_path: Path) -> None:
    view = build_view("video_embedding", model="resnet18", checkpoint=str(resnet))
    assert view.weights == hashlib.sha256(resnet.read_bytes()).hexdigest()
    copy = tmp_path / "copy.pth"
    copy.write_bytes(resnet.read_bytes())
    assert build_view("video_embedding", model="resnet18", checkpoint=str(copy)).weights == view.weights
    state = torch.load(resnet, weights_only=True)
    state["fc.bias"] += 1
    torch.save(state, copy)
    assert build_view("video_embedding", model="resnet18", checkpoint=str(copy)).weights != view.weights
    assert len(build_view("video_embedding", model=str(vit), size=32).weights) == 64


def test_safetensors_hold_the_same_network(resnet: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(torch.load(resnet, weights_only=True), path)
    old, new = (
        build_view("video_embedding", model="resnet18", checkpoint=str(each), size=64)
        for each in (resnet, path)
    )
    crops = old(scenes(1))
    np.testing.assert_array_equal(old.load(CPU)([crops])[0], new.load(CPU)([crops])[0])


def test_download_puts_the_file_into_the_cache_of_torch(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(resnet.read_bytes()).hexdigest()
    offered = tmp_path / f"resnet18-{digest[:8]}.pth"
    offered.write_bytes(resnet.read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(video_embedding, "download_url", lambda model: f"file://{offered}")
    view = build_view("video_embedding", model="resnet18", checkpoint="download", size=64)
    assert view.weights == digest
    assert (tmp_path / "cache/hub/checkpoints" / offered.name).is_file()
    monkeypatch.setattr(video_embedding, "download_url", lambda model: f"file://{tmp_path}/none-12345678.pth")
    with pytest.raises(UserError, match="cannot be downloaded .* checkpoint=FILE"):
        view.load(CPU)


def test_the_view_can_be_sent_to_a_worker_and_written_as_a_spec(resnet: Path) -> None:
    view = build_view("video_embedding", model="resnet18", checkpoint=str(resnet), resize=None)
    assert pickle.loads(pickle.dumps(view)) == view
    (spec,) = parse_specs(f"video_embedding[model=resnet18,checkpoint={resnet},resize=none]")
    assert spec.build() == view


def test_missing_and_wrong_weights_are_explained(resnet: Path, vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"https://download.pytorch.org/models/resnet101-\w+.pth .*checkpoint=FILE"
    ):
        build_view("video_embedding")
    with pytest.raises(UserError, match="there is no file .*none.pth"):
        build_view("video_embedding", checkpoint=str(tmp_path / "none.pth")).load(CPU)
    with pytest.raises(UserError, match="does not hold the weights of torchvision's resnet34"):
        build_view("video_embedding", model="resnet34", checkpoint=str(resnet)).load(CPU)
    for name in ("broken.pth", "broken.safetensors"):
        broken = tmp_path / name
        broken.write_bytes(resnet.read_bytes()[:5000])
        with pytest.raises(UserError, match="is not a state dict of tensors"):
            build_view("video_embedding", model="resnet18", checkpoint=str(broken)).load(CPU)
    with pytest.raises(UserError, match="brings its own weights"):
        build_view("video_embedding", model=str(vit), checkpoint=str(resnet))
    with pytest.raises(UserError, match="takes pictures of 32 x 32, not 224 x 224: write size=32"):
        build_view("video_embedding", model=str(vit)).load(CPU)
    with pytest.raises(UserError, match="there is no such folder"):
        build_view("video_embedding", model=str(tmp_path / "none")).load(CPU)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"fc.bias": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="is not a state dict"):
        build_view("video_embedding", model="resnet18", checkpoint=str(tmp_path / "trap.pth")).load(CPU)
    assert not (tmp_path / "sprung").exists()


def test_models_that_take_no_pictures_are_refused(vit: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    ).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="kind 'bert', which is no vision encoder"):
        build_view("video_embedding", model=str(tmp_path)).load(CPU)
    (vit / "preprocessor_config.json").rename(vit / "elsewhere.json")
    try:
        with pytest.raises(UserError, match="no preprocessor_config.json"):
            build_view("video_embedding", model=str(vit), size=32).load(CPU)
    finally:
        (vit / "elsewhere.json").rename(vit / "preprocessor_config.json")


@pytest.mark.parametrize(
    "settings",
    [
        {"fps": 0.0},
        {"max_frames": 0},
        {"size": 0},
        {"resize": 100},
        {"pool": "max"},
        {"precision": "int8"},
        {"batch_pictures": 0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"video_embedding: {next(iter(settings))}"):
        build_view("video_embedding", checkpoint="download", **settings)
