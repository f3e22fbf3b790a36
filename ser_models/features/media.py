"""Decoding, downmixing and resampling in one place, and every reason why a recording cannot be used.

WAV, FLAC, OGG and MP3 are read by libsndfile (soundfile); containers such as MP4 and AVI by FFmpeg (PyAV).
Downmixing (mean of the channels) and resampling (soxr, HQ) give what ``librosa.load(path, sr=rate)`` gives. A
recording that is missing, empty, cut short, silent to the last sample or not finite is a `MediaError`, never
shorter or altered audio.
"""

import hashlib
import io
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_models import places

if TYPE_CHECKING:
    import av.container

Waveform = NDArray[np.float32]

LIBRARIES = ("av", "numpy", "soundfile", "soxr")
"""Distributions whose versions decide the decoded samples."""

END_TOLERANCE = 0.1
"""Seconds by which an annotated end, or the length declared by a container, may exceed the decoded sound."""

_UNRECOGNISED = 1  # SF_ERR_UNRECOGNISED_FORMAT
_TRUNCATED_CHUNK = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFFF000  # programs that write to a pipe give this size or a larger one


class MediaError(Exception):
    """A recording cannot be used; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Media:
    """What was found in a media file.

    Attributes:
        sha256: of the decoded samples before resampling: the sample rate in decimal, a line feed, then the
            mono signal as little-endian float32. Equal sound in another lossless format has an equal hash.
        duration: seconds, measured by counting samples.
        sample_rate: Hz, as found.
        channels: as found, before downmixing.
    """

    sha256: str
    duration: float
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Recording:
    """A decoded mono signal.

    Attributes:
        samples: [samples] float32 at ``media.sample_rate``.
        media: what was found in the file.
    """

    samples: Waveform
    media: Media

    def at(self, rate: int) -> Waveform:
        """The signal at another sample rate, in Hz."""
        return resample(self.samples, self.media.sample_rate, rate)


def read(uri: str, start: float | None = None, end: float | None = None) -> Recording:
    """Decode a media file, or the part of it from ``start`` to ``end``, to mono at its own rate.

    Args:
        uri: local path or ``s3://`` URI.
        start: seconds from the first sample; None is 0.
        end: seconds from the first sample; None is the end of the file.

    Raises:
        MediaError: the file is missing, unreadable, empty, cut short, all zero or not finite, or the part
            lies outside it.
        OSError: the storage failed, which says nothing about the recording.
    """
    source = _open(uri)
    samples: Waveform
    try:
        with soundfile.SoundFile(source) as file:
            channels, rate = file.channels, file.samplerate
            samples = _read_soundfile(file, source, start, end)
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED:
            raise MediaError(f"cannot be decoded: {error.error_string.removeprefix('Error : ')}") from error
        samples, rate, channels = _read_container(source, start, end)
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    _check(mono)
    mono = np.ascontiguousarray(mono, dtype="<f4")
    digest = hashlib.sha256(f"{rate}\n".encode())
    digest.update(mono.data)
    return Recording(mono, Media(digest.hexdigest(), len(mono) / rate, rate, channels))


def decode(
    uri: str, start: float | None = None, end: float | None = None, target_rate: int | None = None
) -> tuple[Waveform, Media]:
    """Decode, downmix and resample.

    Args:
        uri: local path or ``s3://`` URI.
        start: seconds; None is the beginning.
        end: seconds; None is the end of the file.
        target_rate: Hz; None keeps the rate of the file.

    Returns:
        The waveform [samples] float32, and what was found in the file.

    Raises:
        MediaError: as `read`.
        OSError: as `read`.
    """
    recording = read(uri, start, end)
    return recording.at(target_rate or recording.media.sample_rate), recording.media


def resample(samples: Waveform, rate: int, target: int) -> Waveform:
    """Change the sample rate with soxr's HQ recipe, as ``librosa.resample`` does by default.

    Args:
        samples: [samples] float32 at ``rate``.
        rate: Hz.
        target: Hz.

    Returns:
        [ceil(samples · target / rate)] float32.
    """
    if rate == target:
        return samples
    length = math.ceil(len(samples) * (float(target) / rate))
    result = soxr.resample(samples, rate, target, quality="HQ")
    if len(result) < length:
        result = np.pad(result, (0, length - len(result)))
    return np.ascontiguousarray(result[:length], dtype=np.float32)


def _open(uri: str) -> str | io.BytesIO:
    """A local path, or the content of a remote object, after the checks that need no decoder."""
    source: str | io.BytesIO
    try:
        if places.is_remote(uri):
            content = places.read_bytes(uri)
            size = len(content)
            source = io.BytesIO(content)
        else:
            source = places.absolute(uri)
            with open(source, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise MediaError("the file does not exist") from error
    except IsADirectoryError as error:
        raise MediaError("it is a folder, not a file") from error
    except PermissionError as error:
        raise MediaError("permission to read it is denied") from error
    if size == 0:
        raise MediaError("the file is empty")
    return source


def _read_soundfile(
    file: soundfile.SoundFile, source: str | io.BytesIO, start: float | None, end: float | None
) -> Waveform:
    """Samples [samples] or [samples, channels] of a file that libsndfile has opened."""
    # libsndfile shortens such files without an error; only its log tells what the header had promised.
    for declared, found in _TRUNCATED_CHUNK.findall(file.extra_info):
        if int(found) < int(declared) < _UNKNOWN_LENGTH:
            raise MediaError(f"cut short: the header promises {declared} bytes of sound, {found} are there")
    if file.format == "OGG" and not _ogg_is_finished(source):
        raise MediaError("cut short: the last page of the Ogg stream is missing")
    first, stop = _range(file.frames, file.samplerate, start, end)
    if first:
        file.seek(first)
    samples: Waveform = file.read(stop - first, dtype="float32")
    if len(samples) < stop - first:
        raise MediaError(f"cut short: {len(samples)} of {stop - first} samples can be read")
    return samples


def _read_container(
    source: str | io.BytesIO, start: float | None, end: float | None
) -> tuple[Waveform, int, int]:
    """Samples [samples, channels], sample rate and channels of the first audio track that FFmpeg finds."""
    import av

    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with av.open(source, mode="r") as container:
            if not container.streams.audio:
                raise MediaError("it has no audio track")
            samples, rate = _decode_track(container)
    except av.error.InvalidDataError as error:
        raise MediaError("it is not a sound or video file that can be decoded, or it is damaged") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"cannot be decoded: {error.strerror}") from error
    first, stop = _range(len(samples), rate, start, end)
    return samples[first:stop], rate, samples.shape[1]


def _decode_track(container: "av.container.InputContainer") -> tuple[Waveform, int]:
    import av

    stream = container.streams.audio[0]
    rate = stream.codec_context.sample_rate
    planar = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=rate)
    parts = [part.to_ndarray() for frame in container.decode(stream) for part in planar.resample(frame)]
    parts += [part.to_ndarray() for part in planar.resample(None)]
    if not parts:
        raise MediaError("it holds no samples")
    samples: Waveform = np.concatenate(parts, axis=1, dtype=np.float32).T
    if stream.duration is not None and stream.time_base is not None:
        declared = float(stream.duration * stream.time_base)
        if len(samples) / rate < declared - END_TOLERANCE:
            raise MediaError(f"cut short: {len(samples) / rate:.2f} s of {declared:.2f} s can be decoded")
    return samples, rate


def _range(frames: int, rate: int, start: float | None, end: float | None) -> tuple[int, int]:
    """First sample and one past the last of a part of a recording."""
    if frames == 0:
        raise MediaError("it holds no samples")
    first = round((start or 0.0) * rate)
    stop = frames if end is None else round(end * rate)
    if stop > frames + END_TOLERANCE * rate or first >= frames:
        raise MediaError(
            f"the part from {start or 0:g} s to {end if end is not None else frames / rate:g} s "
            f"lies outside the recording of {frames / rate:.3f} s"
        )
    stop = min(stop, frames)
    if not 0 <= first < stop:
        raise MediaError(f"the part from {start or 0:g} s to {end:g} s holds no samples")
    return first, stop


def _check(mono: Waveform) -> None:
    if not np.isfinite(mono).all():
        raise MediaError("it holds samples that are not finite numbers")
    if not mono.any():
        raise MediaError("all samples are zero")


def _ogg_is_finished(source: str | io.BytesIO) -> bool:
    """Whether the last Ogg page is complete and marked as the end of its stream (RFC 3533, section 6)."""
    largest_page = 65307
    if isinstance(source, io.BytesIO):
        tail = source.getvalue()[-2 * largest_page :]
    else:
        with open(source, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 2 * largest_page))
            tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    segments = page[26]
    complete = len(page) >= 27 + segments + sum(page[27 : 27 + segments])
    return complete and bool(page[5] & 4)
