"""Several views in one pass: sound, pictures, words and encoders; on Ray as in the loop, killed, and on odd files."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from test_preprocess import contents, descendants, environment, kill_everything

from ser_models.corpora import load_corpus
from ser_models.corpora.synthetic import Settings, generate
from ser_models.features.media import read, resample
from ser_models.shards import pipeline
from ser_models.shards.pipeline import Job
from ser_models.shards.preprocess import PreprocessConfig, plan, preprocess
from ser_models.shards.store import find_store

REPOSITORY = Path(__file__).resolve().parents[2]
SIGNAL = "mfcc,log_filterbank,spectrogram,waveform,face_frames,words"
NEURAL_TOLERANCE = 2e-3
"""Largest difference of half-precision features between runs: the same network on the same inputs, other batches."""


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SYNTHETIC IEMOCAP: sound, split-frame video, transcripts."""
    root = tmp_path_factory.mktemp("twin")
    generate("iemocap", str(root), Settings(speakers=4, utterances=12, seconds=1.0, sample_rate=16000))
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small randomly initialised wav2vec2, saved as transformers saves it."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "unit"))
    import tiny_models

    return tiny_models.build("wav2vec2_group", tmp_path_factory.mktemp("encoder") / "wav2vec2")


def configure(root: Path, output: Path, views: str, **settings: object) -> PreprocessConfig:
    given = {"corpus": "iemocap", "shards": 8} | settings
    return PreprocessConfig(root=str(root), views=views, output=str(output), **given)  # type: ignore[arg-type]


def test_one_pass_gives_what_one_pass_per_view_gives(twin: Path, tmp_path: Path) -> None:
    preprocess(configure(twin, tmp_path / "together", SIGNAL, local=True))
    for view in SIGNAL.split(","):
        preprocess(configure(twin, tmp_path / "apart", view, local=True))
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")


def test_ray_with_encoders_writes_what_the_loop_writes(
    ray_cluster: None, twin: Path, encoder: str, tmp_path: Path
) -> None:
    views = f"log_filterbank,face_frames,words,ssl[model={encoder}]"
    preprocess(configure(twin, tmp_path / "loop", views, local=True))
    preprocess(configure(twin, tmp_path / "ray", views))
    for view in views.split(","):
        loop, ray = (find_store(str(tmp_path / where), "iemocap", view) for where in ("loop", "ray"))
        ours, theirs = loop.open(str(tmp_path / "a")), ray.open(str(tmp_path / "b"))
        assert ours.ids == theirs.ids
        for row in range(len(ours)):
            one, other = ours.array(row), theirs.array(row)
            if view.startswith("ssl"):
                np.testing.assert_allclose(one.astype("f4"), other.astype("f4"), atol=NEURAL_TOLERANCE)
            else:
                np.testing.assert_array_equal(one, other)


def test_encoders_run_in_pools_of_their_own_and_a_block_is_a_shard(
    ray_cluster: None, twin: Path, encoder: str, tmp_path: Path
) -> None:
    config = configure(twin, tmp_path, f"mfcc,ssl[model={encoder}]")
    targets, manifest, groups = plan(config, load_corpus("iemocap", str(twin)))
    for target in targets:
        from ser_models.shards.preprocess import _open_folder

        _open_folder(target, manifest, groups)
    jobs = [
        Job(shard, tuple(str(target.spec) for target in targets)) for shard, rows in enumerate(groups) if rows
    ]
    dataset = pipeline.build_dataset(targets, jobs, None)
    blocks = [block.num_rows for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow")]
    assert blocks == [len(targets)] * len(jobs)
    operators = dataset.stats()
    assert "MapBatches(compute)" in operators and "MapBatches(Encoding)" in operators
    assert "MapBatches(compute)->MapBatches(Encoding)" not in operators


def test_killed_workers_and_a_killed_driver_cost_time_and_nothing_else(twin: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    views = SIGNAL.replace("mfcc", "mfcc,mfcc[samples=8000],descriptors")
    preprocess(configure(twin, whole, views, shards=16, local=True))
    program = [sys.executable, str(REPOSITORY / "workflows" / "preprocess.py"), "--corpus", "iemocap"]
    command = [*program, "--root", str(twin), "--views", views, "--shards", "16", "--output", str(broken)]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL)

    def wait_for(process: "subprocess.Popen[bytes]", shards: int) -> None:
        deadline = time.monotonic() + 120
        while len(list(broken.rglob("shard-*.parquet"))) < shards and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be disturbed"
            time.sleep(0.005)

    first = start()
    wait_for(first, 8)
    # The worker that computes: Ray names its processes after what they do.
    busy = [child for child in descendants(first.pid) if "MapBatches" in _title(child)]
    assert busy, "no worker was computing"
    for child in busy[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    wait_for(first, 24)
    kill_everything(first)
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr[-2000:]
    assert contents(broken) == contents(whole)


def _title(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def own_corpus(folder: Path, rows: list[str], columns: str = "audio,emotion,speaker") -> Path:
    table = folder / "table.csv"
    table.write_text("\n".join([columns, *rows]))
    return table


def test_every_format_rate_and_depth_is_read_in_one_corpus(tmp_path: Path) -> None:
    time_axis = np.arange(2 * 44100) / 44100
    tone = (0.3 * np.sin(2 * np.pi * 220 * time_axis * (1 + 0.05 * time_axis))).astype(np.float32)
    forms = {
        "a.wav": (44100, 1, "PCM_16"),
        "b.wav": (22050, 2, "PCM_U8"),
        "c.wav": (48000, 1, "PCM_24"),
        "d.flac": (16000, 2, "PCM_24"),
        "e.ogg": (44100, 1, "VORBIS"),
        "f.mp3": (44100, 2, "MPEG_LAYER_III"),
        "g.wav": (8000, 1, "FLOAT"),
    }
    for name, (rate, channels, subtype) in forms.items():
        samples = np.interp(np.arange(2 * rate) / rate, time_axis, tone)
        soundfile.write(tmp_path / name, np.stack([samples] * channels, axis=1), rate, subtype=subtype)
    for name, codec, sound in (("h.mp4", "mpeg4", "aac"), ("i.avi", "mpeg4", "mp2")):
        write_film(tmp_path / name, tone, codec, sound)
    names = [*forms, "h.mp4", "i.avi"]
    table = own_corpus(tmp_path, [f"{name},sad,s{number % 2}" for number, name in enumerate(names)])
    output = tmp_path / "out"
    preprocess(configure(table, output, "log_filterbank,mfcc", corpus="mixed", local=True))
    store = find_store(str(output), "mixed", "log_filterbank")
    assert store.info["errors"] == 0 and store.info["rows"] == len(names)
    features = store.open(str(tmp_path / "cache"))
    reference = features.array(features.row("a"))
    for name in names:
        other = features.array(features.row(name.split(".")[0]))
        frames = min(len(reference), len(other))
        assert frames > 190
        # The lowest bands hold the tone itself; codecs and rates change what is far below it.
        strongest = reference[:frames].argmax(1) == other[:frames].argmax(1)
        assert strongest[5:-12].mean() > 0.9, name


def write_film(path: Path, samples: np.ndarray, codec: str, sound: str) -> None:
    """Two seconds of grey pictures with the samples, 44.1 kHz, as sound."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=10)
        pictures.width = pictures.height = 64
        track = container.add_stream(sound, rate=44100, layout="mono")
        for _ in range(20):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8))))
        container.mux(pictures.encode(None))
        format_ = "fltp" if sound == "aac" else "s16"
        data = samples[None] if sound == "aac" else (samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=format_, layout="mono")
        frame.sample_rate = 44100
        container.mux(track.encode(frame))
        container.mux(track.encode(None))


def test_the_clips_sound_is_its_twins_to_resampling_accuracy(real_corpora: Path) -> None:
    clip = read(str(real_corpora / "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4"))
    alone = read(str(real_corpora / "ravdess_originals/Actor_01/03-01-01-01-01-01-01.wav"))
    assert clip.media.sample_rate == alone.media.sample_rate == 48000
    # The clip's AAC track lags behind by the 1600 samples that its editor put before it.
    size = min(len(clip.samples), len(alone.samples)) - 1600
    delayed = resample(clip.samples[1600 : 1600 + size], 48000, 16000)
    reference = resample(alone.samples[:size], 48000, 16000)
    error = np.sqrt(np.mean((delayed - reference) ** 2) / np.mean(reference**2))
    assert error < 0.02, error  # what AAC loses


def test_one_very_long_clip_among_short_ones_is_computed(ray_cluster: None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(7):
        soundfile.write(tmp_path / f"{number}.wav", random.normal(size=48000) * 0.1, 16000)
    soundfile.write(tmp_path / "long.wav", random.normal(size=305 * 16000) * 0.1, 16000)
    rows = [f"{name}.wav,sad,s" for name in [*map(str, range(7)), "long"]]
    config = configure(
        own_corpus(tmp_path, rows), tmp_path / "out", "mfcc,log_filterbank,waveform", corpus="lengths"
    )
    preprocess(config)
    table = find_store(str(tmp_path / "out"), "lengths", "waveform").open(str(tmp_path / "cache"))
    assert sorted(table.frames.tolist()) == [48000] * 7 + [305 * 16000]


def test_what_an_utterance_lacks_is_an_error_of_the_view_that_needs_it(tmp_path: Path, twin: Path) -> None:
    dialogue = next(twin.rglob("*.avi"))
    sound = next(twin.rglob("*.wav"))
    (tmp_path / "cut.avi").write_bytes(dialogue.read_bytes()[:3000])
    rows = [
        f"{sound},{dialogue},0.5,1.5,left,some words,sad,a",
        f"{sound},,,,,some words,sad,b",
        f"{sound},{tmp_path / 'cut.avi'},0.5,1.5,left,,sad,c",
        f"{sound},{dialogue},9000,9001,left,more words,sad,d",
    ]
    columns = "audio,video,video_start,video_end,video_region,text,emotion,speaker,utterance_id"
    rows = [f"{row},u{number}" for number, row in enumerate(rows)]
    config = configure(
        own_corpus(tmp_path, rows, columns),
        tmp_path / "out",
        "mfcc,face_frames,words",
        corpus="gaps",
        local=True,
        allow_partial=True,
        max_error_fraction=1.0,
    )
    preprocess(config)
    errors = {}
    for view in ("mfcc", "face_frames", "words"):
        listed = find_store(config.output, "gaps", view).errors().to_pylist()
        errors[view] = {row["utterance_id"]: row["error"] for row in listed}
    assert errors["mfcc"] == {}
    assert set(errors["face_frames"]) == {"u1", "u2", "u3"}
    assert errors["face_frames"]["u1"] == "the corpus names no video file for it"
    assert errors["words"] == {"u2": "the corpus has no transcript of it"}
