"""Decoding: equal to librosa's, and every unusable recording refused with its reason."""

from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile

from ser_models.features.media import MediaError, decode, read, resample

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A decaying chirp, [samples] or [samples, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.exp(-time) * np.sin(2 * np.pi * (200 + 300 * time) * time)
    return wave if channels == 1 else np.stack([wave / (1 + index) for index in range(channels)], axis=1)


def write(path: Path, samples: np.ndarray | None = None, rate: int = RATE, **options: str) -> str:
    """Write a sound file and return its path."""
    soundfile.write(path, tone() if samples is None else samples, rate, **options)
    return str(path)


def cut(path: str, fraction: float = 0.6) -> str:
    """Keep only the beginning of a file."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * fraction)])
    return path


def write_container(path: Path, codec: str, seconds: float = 1.0) -> str:
    """Write a container with one audio track by FFmpeg."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        samples = (tone(seconds) * 32767).astype(np.int16)[None, :]
        for start in range(0, samples.shape[1], 1024):
            part = np.ascontiguousarray(samples[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_waveform_equals_librosa_load(tmp_path: Path, rate: int, channels: int) -> None:
    path = write(tmp_path / "a.wav", tone(0.73, rate, channels), rate)
    waveform, media = decode(path, target_rate=22050)
    expected, _ = librosa.load(path, sr=22050)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, expected, atol=1e-6)  # the same resampler: only rounding may differ
    assert (media.sample_rate, media.channels) == (rate, channels)
    assert media.duration == pytest.approx(0.73, abs=1 / rate)


@pytest.mark.parametrize("length", [1, 2, 3, 159, 160, 161, 12345])
def test_resampled_length_equals_librosa(length: int) -> None:
    samples = np.linspace(-0.5, 0.5, length, dtype=np.float32)
    expected = librosa.resample(samples, orig_sr=16000, target_sr=22050)
    np.testing.assert_allclose(resample(samples, 16000, 22050), expected, atol=1e-6)


def test_no_resampling_keeps_every_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", subtype="FLOAT")
    waveform, _ = decode(path)
    np.testing.assert_array_equal(waveform, tone().astype(np.float32))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.ogg", {}),
        ("a.mp3", {}),
    ],
)
def test_formats_that_libsndfile_reads(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    waveform, media = decode(write(tmp_path / name, **options))
    assert media.duration == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(np.std(waveform), np.std(tone()), rtol=0.05)  # lossy codecs keep the level


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.avi", "pcm_s16le"), ("a.mkv", "flac")])
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    waveform, media = decode(write_container(tmp_path / name, codec))
    assert media.sample_rate == RATE
    assert media.duration == pytest.approx(1.0, abs=0.1)  # AAC pads to whole frames
    if codec != "aac":
        np.testing.assert_allclose(waveform, tone(), atol=1e-4)  # 16 bits


def test_equal_sound_has_equal_hash_whatever_the_lossless_format(tmp_path: Path) -> None:
    samples = (tone() * 32767).astype(np.int16)
    sound = {read(write(tmp_path / name, samples)).media.sha256 for name in ("a.wav", "b.flac", "c.wav")}
    other_rate = read(write(tmp_path / "d.wav", rate=8000)).media.sha256
    louder = read(write(tmp_path / "e.wav", tone() * 1.5)).media.sha256
    assert len(sound) == 1
    assert len(sound | {other_rate, louder}) == 3


def test_a_part_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", subtype="FLOAT")
    waveform, media = decode(path, start=0.25, end=0.75)
    np.testing.assert_array_equal(waveform, tone().astype(np.float32)[4000:12000])
    assert media.duration == 0.5
    assert decode(path, start=0.5, end=1.05)[1].duration == 0.5  # an annotation may end a little late


@pytest.mark.parametrize("part", [(1.5, None), (0.5, 2.0), (0.5, 0.5), (0.7, 0.2), (-0.5, 0.2)])
def test_a_part_outside_the_file_is_refused(tmp_path: Path, part: tuple[float, float | None]) -> None:
    with pytest.raises(MediaError, match="the part from"):
        read(write(tmp_path / "a.wav"), *part)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound " * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for name, reason in {
        "missing.wav": "does not exist",
        "empty.wav": "is empty",
        "text.wav": "not a sound or video file",
        "noise.mp4": "not a sound or video file",
        ".": "folder",
    }.items():
        with pytest.raises(MediaError, match=reason):
            read(str(tmp_path / name))


def test_a_file_without_samples(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no samples"):
        read(write(tmp_path / "a.wav", np.empty(0)))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.aiff"])
def test_a_cut_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).uniform(-0.5, 0.5, RATE))
    with pytest.raises(MediaError, match="cut short|cannot be decoded"):
        read(cut(path))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path, size: int) -> None:
    path = Path(write(tmp_path / "a.wav"))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")  # what ffmpeg and sox write where they cannot go back
    path.write_bytes(content)
    assert read(str(path)).media.duration == 1.0


def test_a_cut_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cut short|damaged"):
        read(cut(write_container(tmp_path / "a.mp4", "aac", seconds=3.0)))


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="no audio track"):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone()
    samples[100] = value
    with pytest.raises(MediaError, match="not finite"):
        read(write(tmp_path / "a.wav", samples, subtype="FLOAT"))


def test_digital_silence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="all samples are zero"):
        read(write(tmp_path / "a.wav", np.zeros(RATE)))


def test_real_stereo_originals_equal_librosa(real_corpora: Path) -> None:
    files = sorted((real_corpora / "ravdess_originals").rglob("*.wav"))
    assert files
    for path in files:
        expected, _ = librosa.load(path, sr=22050)
        np.testing.assert_allclose(decode(str(path), target_rate=22050)[0], expected, atol=1e-6)


def test_real_clip_decodes_to_its_declared_length(real_corpora: Path) -> None:
    (path,) = sorted((real_corpora / "ravdess_av").rglob("*.mp4"))
    waveform, media = decode(str(path), target_rate=16000)
    assert media.channels == 2
    assert media.duration == pytest.approx(3.3, abs=0.05)
    assert np.abs(waveform).max() > 0.01
