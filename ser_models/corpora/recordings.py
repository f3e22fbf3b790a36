"""What the media files themselves say: headers, files that cannot be whole, files that sound the same.

Only headers and short probes are read here, so that a corpus is counted in seconds. Decoding all samples is
the work of preprocessing.
"""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import soundfile

from ser_models import places

_PROBE = 4096
_THREADS = 8
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".wmv")
_BLOCK = 1 << 16

# libsndfile mends the length of a truncated WAV file in silence; only its log tells. Programs that write into
# a pipe put a length near 2^31 or 2^32 into the header, which is no sign of truncation.
_MENDED_LENGTH = re.compile(r"^data *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFF0000


@dataclasses.dataclass(frozen=True)
class Recording:
    """The header of one media file.

    Attributes:
        uri: the file.
        duration: seconds; None where the file cannot be read.
        sample_rate: of the sound, Hz; None without sound.
        channels: of the sound; None without sound.
        fault: why the file cannot be used, or None.
        probe: a short piece of the samples; files that sound the same share it. None for video files.
    """

    uri: str
    duration: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    fault: str | None = None
    probe: bytes | None = None


def read_headers(uris: Iterable[str]) -> dict[str, Recording]:
    """Read the headers of media files, several at a time; a fault is part of the answer, never raised."""
    distinct = sorted(set(uris))
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(distinct, pool.map(_read_header, distinct), strict=True))


def find_identical(recordings: Iterable[Recording]) -> list[list[str]]:
    """Group the audio files whose decoded samples are equal, in whatever format they are stored.

    Samples are read as int32, so that a WAV and a FLAC file of the same recording agree. Only files of equal
    length, rate and channels that share a probe from their middle are read whole.

    Returns:
        Groups of at least two URIs, each sorted, sorted among themselves.
    """
    alike = defaultdict(list)
    for recording in recordings:
        if recording.probe is not None:
            key = (recording.duration, recording.sample_rate, recording.channels, recording.probe)
            alike[key].append(recording.uri)
    equal = defaultdict(list)
    for key, uris in alike.items():
        for uri in uris if len(uris) > 1 else ():
            if (digest := _hash_samples(uri)) is not None:
                equal[key, digest].append(uri)
    return sorted(sorted(group) for group in equal.values() if len(group) > 1)


def _read_header(uri: str) -> Recording:
    try:
        with places.open_input(uri) as stream:
            if not stream.read(1):
                return Recording(uri, fault="empty file (0 bytes)")
            stream.seek(0)
            if uri.lower().endswith(_VIDEO_SUFFIXES):
                return _read_video_header(uri, stream)
            return _read_audio_header(uri, stream)
    except soundfile.LibsndfileError as error:  # its full text holds the address of the stream
        return Recording(uri, fault=f"unreadable: {error.error_string.rstrip('.')}")
    except Exception as error:  # video and cloud libraries each have their own kinds of error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        return Recording(uri, fault=f"unreadable: {reason}")


def _read_audio_header(uri: str, stream: Any) -> Recording:
    with soundfile.SoundFile(stream) as sound:
        if not sound.frames:
            return Recording(uri, fault="no samples")
        mended = _MENDED_LENGTH.search(sound.extra_info)
        if mended and int(mended[2]) < int(mended[1]) < _UNKNOWN_LENGTH:
            return Recording(uri, fault=f"truncated: {mended[2]} of {mended[1]} bytes of samples are there")
        sound.seek(max(0, sound.frames // 2 - _PROBE // 2))
        middle = sound.read(_PROBE, dtype="int32")
        try:
            sound.seek(sound.frames - 1)
            whole = len(sound.read(1, dtype="int32")) == 1
        except soundfile.LibsndfileError:
            whole = False
        if not whole:
            return Recording(uri, fault="truncated: the last sample cannot be read")
        return Recording(
            uri,
            duration=sound.frames / sound.samplerate,
            sample_rate=sound.samplerate,
            channels=sound.channels,
            probe=hashlib.sha256(middle.tobytes()).digest(),
        )


def _read_video_header(uri: str, stream: Any) -> Recording:
    import av  # only corpora with video pay for loading FFmpeg

    with av.open(stream) as container:
        sound = next(iter(container.streams.audio), None)
        timed = sound or next(iter(container.streams.video), None)
        if timed is None:
            return Recording(uri, fault="neither sound nor pictures in it")
        # The index at the head of a truncated file still points to what is gone.
        ends = (entry.pos + entry.size for each in container.streams for entry in each.index_entries)
        if (end := max(ends, default=0)) > container.size:
            return Recording(uri, fault=f"truncated: {container.size} of at least {end} bytes are there")
        if timed.duration is not None and timed.time_base is not None:
            duration = float(timed.duration * timed.time_base)
        elif container.duration is not None:
            duration = container.duration / av.time_base
        else:
            return Recording(uri, fault="its header states no duration")
        return Recording(
            uri,
            duration=duration,
            sample_rate=sound.rate if sound else None,
            channels=sound.channels if sound else None,
        )


def _hash_samples(uri: str) -> bytes | None:
    """SHA-256 of all samples; None where some cannot be decoded, which preprocessing will report."""
    digest = hashlib.sha256()
    try:
        with places.open_input(uri) as stream, soundfile.SoundFile(stream) as sound:
            while len(block := sound.read(_BLOCK, dtype="int32")):
                digest.update(block.tobytes())
    except (soundfile.LibsndfileError, OSError):
        return None
    return digest.digest()
