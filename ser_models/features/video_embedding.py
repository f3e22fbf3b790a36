"""Embeddings of pictures: the visual input of AMH (Yoon et al., ICASSP 2020), and any encoder of its kind."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError, WorkError
from ser_models.features import pretrained
from ser_models.features.media import MediaError
from ser_models.features.speech_models import in_memory
from ser_models.features.video import LIBRARIES, Picture

if TYPE_CHECKING:
    import torch

RESNETS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}
"""torchvision's networks that can be named, and the size of what they pool."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what torchvision's ImageNet weights were trained with."""

DOWNLOAD = "download"


@dataclass(frozen=True, kw_only=True)
class VideoEmbedding:
    """One vector per picture, [frames, dimensions] float32 or float16.

    Pictures are taken ``fps`` times a second from the beginning, at most ``max_frames``. Each is resized so that
    its shorter side has ``resize`` pixels (PIL, bilinear with antialiasing), cropped to ``size`` × ``size``
    around its centre, scaled to [0, 1] and normalised per colour; these are torchvision's own steps for its
    ImageNet weights. The network is one of:

    - torchvision's ResNets: the average over the last feature map, 2048 values for the default. Their weights come
      from ``checkpoint``.
    - a vision encoder that transformers' ``AutoModel`` loads, by folder or name: its last hidden state, averaged
      over positions or of its first token (``pool``). Mean and deviation of the colours are the model's own
      (``preprocessor_config.json``).

    AMH states half of the split picture, a centre crop of 224, ResNet-101, 2048 values, 3 pictures per second and at
    most 32. Resizing before the crop, keeping the first 32 pictures of a longer utterance, and torchvision's
    first weights (``IMAGENET1K_V1``) are our choice: it names none.

    The network computes in float32 without TF32 on every device, so that a result does not depend on what else
    is in its batch to 1e-4 of the largest value.

    Raises:
        UserError: an impossible setting; when the network is first looked at, one that cannot be found or used.
    """

    name: ClassVar[str] = "video_embedding"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "video"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "pillow", "torch", "torchvision", "transformers")
    encoder: ClassVar[bool] = True

    model: str = "resnet101"
    """resnet18, 34, 50, 101 or 152 of torchvision; or folder or name of a transformers vision encoder."""
    checkpoint: str | None = None
    """For a ResNet its weights: a local state dict (``.pth`` or ``.safetensors``), or ``download`` for torchvision's
    own from the internet."""
    fps: float = 3.0
    """Pictures per second."""
    max_frames: int = 32
    """Most pictures of an utterance; later ones are left out."""
    resize: int | None = 256
    """Pixels of the shorter side before the crop; none crops the picture as it is."""
    size: int = 224
    """Rows and columns of the crop."""
    pool: str = "mean"
    """Of a transformers encoder: mean over all positions, or cls, the first token."""
    precision: str = "float32"
    """How the vectors are stored: float32 or float16."""
    batch_pictures: int = 32
    """Pictures in a batch; halved where a GPU's memory does not hold it."""

    def __post_init__(self) -> None:
        """Refuse impossible settings, without looking at the network."""
        for setting in ("max_frames", "size", "batch_pictures"):
            if getattr(self, setting) < 1:
                raise UserError(
                    f"video_embedding: {setting} must be at least 1, got {getattr(self, setting)}"
                )
        if not 0.0 < self.fps < math.inf:
            raise UserError(f"video_embedding: fps must be positive, got {self.fps}")
        if self.resize is not None and self.resize < self.size:
            raise UserError(f"video_embedding: resize ({self.resize}) must not be below size ({self.size})")
        if self.pool not in {"mean", "cls"}:
            raise UserError(f"video_embedding: pool must be mean or cls, got {self.pool!r}")
        if self.precision not in {"float32", "float16"}:
            raise UserError(f"video_embedding: precision must be float32 or float16, got {self.precision!r}")
        if self.model in RESNETS and self.checkpoint is None:
            raise UserError(
                f"video_embedding: {self.model} needs its weights: download {download_url(self.model)} and give the "
                "file as checkpoint=FILE, or write checkpoint=download"
            )
        if self.model not in RESNETS and self.checkpoint is not None:
            raise UserError(
                f"video_embedding: checkpoint is for {', '.join(RESNETS)}; {self.model!r} brings its own weights"
            )

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return self.precision

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (RESNETS.get(self.model) or self._hidden_size(),)

    @property
    def weights(self) -> str:
        """sha256 of the checkpoint's bytes, or that which names the content of a transformers model."""
        if self.model not in RESNETS:
            return pretrained.identity(self.model)
        path = self._checkpoint()
        status = path.stat()
        return _digest(str(path), status.st_size, status.st_mtime_ns)

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora of emotional speech that the network is known to have seen."""
        return () if self.model in RESNETS else pretrained.training_corpora(self.model)

    def times(self, duration: float) -> NDArray[np.float64]:
        """Seconds from the utterance's beginning, [frames] float64; at least one.

        >>> VideoEmbedding(checkpoint="download", fps=2.0).times(1.2)
        array([0. , 0.5, 1. ])
        """
        count = math.ceil(duration * self.fps - 1e-9)  # 2 s hold 6 pictures at 3 per second, not a seventh
        return np.arange(min(max(count, 1), self.max_frames)) / self.fps

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.uint8]:
        """Resize and crop.

        Args:
            pictures: [height, width, 3] uint8 RGB each.

        Returns:
            [frames, size, size, 3] uint8.

        Raises:
            MediaError: there are no pictures, or one is smaller than the crop and ``resize`` is none.
        """
        if not pictures:
            raise MediaError("it has no pictures to embed")
        return np.stack([self._crop(picture) for picture in pictures])

    def load(self, device: "torch.device") -> Callable[[Sequence[NDArray[np.uint8]]], list[NDArray[Any]]]:
        """Load the network.

        Args:
            device: where it computes.

        Returns:
            A function of crops [frames, size, size, 3] that gives [frames, dimensions] for each, in order.

        Raises:
            UserError: the weights are missing, damaged, or of another network.
        """
        import torch

        network, mean, deviation = self._network(device)
        colours = [torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (mean, deviation)]

        def forward(batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            pixels = torch.from_numpy(np.stack(batch)).to(device).permute(0, 3, 1, 2)
            with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False, deterministic=True):
                vectors = network((pixels.contiguous().float() / 255 - colours[0]) / colours[1])
            result: NDArray[np.float32] = vectors.float().cpu().numpy()
            return result

        def encode(crops: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
            pictures = [picture for crop in crops for picture in crop]
            vectors: list[NDArray[Any]] = []
            for start in range(0, len(pictures), self.batch_pictures):
                vectors += in_memory(forward, pictures[start : start + self.batch_pictures])
            whole = np.array(vectors, np.float32).reshape(len(pictures), *self.shape).astype(self.dtype)
            if not np.isfinite(whole).all():
                mend = "; write precision=float32" if self.precision == "float16" else ""
                raise WorkError(
                    f"video_embedding: vectors of {self.model!r} are not finite {self.precision}{mend}"
                )
            return np.split(whole, np.cumsum([len(crop) for crop in crops])[:-1]) if crops else []

        return encode

    def _crop(self, picture: Picture) -> Picture:
        from PIL import Image

        height, width = picture.shape[:2]
        if self.resize is not None:
            shorter = min(height, width)
            height, width = (int(self.resize * side / shorter) for side in (height, width))
            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        if min(height, width) < self.size:
            raise MediaError(
                f"its pictures of {width} x {height} are smaller than the crop of {self.size} x {self.size}"
            )
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return picture[top : top + self.size, left : left + self.size]

    def _network(
        self, device: "torch.device"
    ) -> tuple[Callable[["torch.Tensor"], "torch.Tensor"], Sequence[float], Sequence[float]]:
        """[pictures, 3, size, size] → [pictures, dimensions], with mean and deviation of the colours."""
        if self.model in RESNETS:
            return _resnet(self.model, self._checkpoint(), device), IMAGENET_MEAN, IMAGENET_STD
        self._hidden_size()
        mean, deviation = _colours(self.model)
        network = pretrained.load(self.model, "AutoModel", device)

        def pooled(pixels: "torch.Tensor") -> "torch.Tensor":
            state: torch.Tensor = network(pixel_values=pixels).last_hidden_state
            if state.dim() == 4:  # convolutional ones keep [pictures, dimensions, height, width]
                state = state.flatten(2).transpose(1, 2)
            return state.mean(dim=1) if self.pool == "mean" else state[:, 0]

        return pooled, mean, deviation

    def _checkpoint(self) -> Path:
        """The local file with a ResNet's weights."""
        if self.checkpoint == DOWNLOAD:
            return _download(self.model)
        path = Path(str(self.checkpoint)).expanduser()
        if not path.is_file():
            raise UserError(
                f"video_embedding: there is no file {str(path)!r} with the weights of {self.model}; "
                f"download {download_url(self.model)}, or write checkpoint=download"
            )
        return path.resolve()

    def _hidden_size(self) -> int:
        """Dimensions of a transformers encoder, after a look at whether it takes these pictures."""
        config = pretrained.config(self.model)
        sizes = getattr(config, "hidden_sizes", None)
        hidden = sizes[-1] if sizes else getattr(config, "hidden_size", None)
        if hidden is None or not hasattr(config, "num_channels"):
            raise UserError(
                f"video_embedding: {self.model!r} is of the kind {config.model_type!r}, which is no vision encoder; "
                f"take one such as ViT or DINOv2, or {', '.join(RESNETS)}"
            )
        expected = getattr(config, "image_size", None) or self.size
        expected = tuple(expected) if isinstance(expected, list | tuple) else (expected, expected)
        if expected != (self.size, self.size):
            raise UserError(
                f"video_embedding: {self.model!r} takes pictures of {expected[0]} x {expected[1]}, "
                f"not {self.size} x {self.size}: write size={expected[0]}"
            )
        return int(hidden)


def download_url(model: str) -> str:
    """Where torchvision offers its first ImageNet weights of a ResNet."""
    import torchvision

    url: str = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"].url
    return url


def _download(model: str) -> Path:
    """The file of torchvision's weights in torch's cache, where it is downloaded once and its hash is checked."""
    import torch

    url = download_url(model)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        try:
            torch.hub.load_state_dict_from_url(
                url, check_hash=True, progress=False, weights_only=True, map_location="cpu"
            )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"video_embedding: {url} cannot be downloaded ({error}); "
                "download it elsewhere and give the file as checkpoint=FILE"
            ) from error
    return path


@functools.lru_cache(maxsize=16)
def _digest(path: str, size: int, modified: int) -> str:
    """sha256 of a file; size and time of change tell when to look again."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _resnet(model: str, path: Path, device: "torch.device") -> Any:
    """A ResNet without its classifier, for inference."""
    import torch
    import torchvision

    weights = _state(path)
    try:
        classes = len(weights["fc.bias"])
        network: Any = torchvision.models.get_model(model, weights=None, num_classes=classes)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"video_embedding: {path} does not hold the weights of torchvision's {model}"
        ) from error
    network.fc = torch.nn.Identity()
    return network.eval().requires_grad_(False).to(device)


def _state(path: Path) -> Any:
    """A state dict, read without executing anything."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(
            f"video_embedding: {path} is not a state dict of tensors (.pth or .safetensors), or it is damaged"
        ) from error


def _colours(model: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of the colours that a transformers encoder was trained with."""
    path = pretrained.folder(model) / "preprocessor_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return settings["image_mean"], settings["image_std"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"video_embedding: model {model!r} has no preprocessor_config.json with image_mean and image_std, "
            "which say how its input is normalised; copy it from the model that it was made from"
        ) from error
