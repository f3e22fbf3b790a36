"""Pictures of utterances from video files: one pass through a file serves every utterance that lies in it.

FFmpeg (PyAV) decodes forward and jumps only over long gaps, so that a dialogue's file is opened once and read
about once; what stays in memory are the pictures that were asked for. Times count from the beginning of the
file's earliest stream, which is where its sound begins too. The picture of a time is the one on the screen
then: the last that begins at or before it. A time before the first picture gets the first. Pictures keep the
file's own pixels, turned upright where the file says that the camera was rotated. AVI stores no times of
presentation: where its pictures are coded out of order, FFmpeg's times are one picture late.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ser_models import places
from ser_models.features.media import END_TOLERANCE, MediaError

if TYPE_CHECKING:
    import av.container

Picture = NDArray[np.uint8]
"""[height, width, 3], red, green, blue."""

LIBRARIES = ("av", "numpy")
"""Distributions whose versions decide the decoded pictures."""

JUMP = 10.0
"""Seconds: over longer gaps a seek costs less than decoding what lies between (DivX sets key pictures at most
12 seconds apart)."""

_ROUNDING = 1e-3  # seconds by which containers round the time of a picture


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The pictures of one utterance.

    Attributes:
        times: [n] float64, ascending seconds from ``start``.
        start: seconds inside the file; None is its beginning.
        end: seconds inside the file; None is its end.
        region: ``left`` or ``right`` half of the picture; None is all of it. Of an odd width the column in
            the middle belongs to neither half.
    """

    times: NDArray[np.float64]
    start: float | None = None
    end: float | None = None
    region: str | None = None


def read_duration(uri: str) -> float:
    """Seconds from the beginning of a file to the end of its pictures, as its header states them.

    Without such a statement the packets are read, not decoded, to find the last picture's end.

    Args:
        uri: local path or ``s3://`` URI.

    Raises:
        MediaError: the file is missing, empty, no video, or without pictures.
        OSError: the storage failed.
    """
    with _opened(uri) as (container, stream):
        return _duration(container, stream)


def read_pictures(uri: str, wanted: Sequence[Wanted]) -> Iterator[tuple[int, list[Picture] | MediaError]]:
    """Decode what several utterances want of one video file.

    Args:
        uri: local path or ``s3://`` URI.
        wanted: any order; intervals may overlap.

    Yields:
        The position in ``wanted`` and its pictures in the order of its times, or why they cannot be had: the file
        is missing, empty, not a video, without pictures, or cut short or damaged where the pictures would
        be, or the interval is empty or outside the file. In the order in which they are complete.

    Raises:
        OSError: the storage failed, which says nothing about the recording.
    """
    try:
        with _opened(uri) as (container, stream):
            yield from _read(container, stream, wanted)
    except MediaError as error:
        # Only opening raises it: from then on each utterance gets its own.
        yield from ((index, error) for index in range(len(wanted)))


def _read(
    container: "av.container.InputContainer", stream: Any, wanted: Sequence[Wanted]
) -> Iterator[tuple[int, list[Picture] | MediaError]]:
    duration = _duration(container, stream)
    film = _Film(container, stream)
    pictures: dict[int, list[Picture]] = {}
    requests: list[tuple[float, int, int]] = []
    for index, each in enumerate(wanted):
        start = each.start or 0.0
        if fault := _outside(start, each.end, duration):
            yield index, MediaError(fault)
        elif not len(each.times):
            yield index, []
        else:
            pictures[index] = []
            requests += [(start + float(time), index, order) for order, time in enumerate(each.times)]
    heapq.heapify(requests)
    while requests:
        time, index, _ = heapq.heappop(requests)
        if index not in pictures:
            continue
        try:
            picture = film.at(time)
        except MediaError as error:
            del pictures[index]
            yield index, error
            continue
        pictures[index].append(_half(picture, wanted[index].region))
        if len(pictures[index]) == len(wanted[index].times):
            yield index, pictures.pop(index)


class _Film:
    """The decoder of one video, asked for ascending times."""

    def __init__(self, container: "av.container.InputContainer", stream: Any) -> None:
        self._container, self._stream = container, stream
        self._zero = _zero(container, stream)
        self._shown: _Frame | None = None
        self._next: _Frame | None = None  # follows the one shown; None: there is no more, or it is damaged
        self._fault: str | None = None  # the damage after the one shown; only a seek finds a place to go on
        self._picture: Picture | None = None  # of the frame shown
        self._frames = self._decode()

    def at(self, time: float) -> Picture:
        """The picture on the screen at a time in seconds.

        Raises:
            MediaError: it cannot be decoded.
        """
        if self._shown is None and self._next is None:
            self._next = self._pull()
        is_far = self._next is not None and time - self._next.time > JUMP
        if is_far or (self._fault and not self._lasts_until(time)):
            self._seek(time)
        while self._next is not None and (self._shown is None or self._next.time <= time + _ROUNDING):
            self._shown, self._picture = self._next, None
            self._next = self._pull()
        if self._shown is None:
            raise MediaError(self._fault or "it holds no pictures that can be decoded")
        if self._next is None and not self._lasts_until(time):
            raise MediaError(
                self._fault
                or f"cut short: a picture is wanted at {time:.2f} s, the last one is at {self._shown.time:.2f} s"
            )
        if self._picture is None:
            self._picture = _upright(self._shown.frame)
        return self._picture

    def _lasts_until(self, time: float) -> bool:
        """Whether the frame shown, after which none is known, is still on the screen."""
        tolerance = 0.0 if self._fault else END_TOLERANCE
        return self._shown is not None and time < self._shown.end + tolerance

    def _seek(self, time: float) -> None:
        """Go to the key picture before ``time``; where the file's index misleads, to its beginning."""
        import av

        for target in (time, 0.0):
            try:
                self._container.seek(
                    round((target + self._zero) / self._stream.time_base), stream=self._stream, backward=True
                )
            except av.error.FFmpegError:
                continue
            self._shown = self._picture = self._fault = None
            self._frames = self._decode()
            self._next = self._pull()
            if self._fault or (self._next is not None and self._next.time <= time + _ROUNDING):
                return

    def _pull(self) -> "_Frame | None":
        """The next frame, or None at the end and at damage."""
        import av

        try:
            return next(self._frames, None)
        except MediaError as error:
            self._fault = str(error)
        except av.error.FFmpegError as error:
            after = f" after {self._shown.time:.2f} s" if self._shown else ""
            self._fault = f"damaged: it cannot be decoded{after} ({error.strerror})"
        return None

    def _decode(self) -> "Iterator[_Frame]":
        rate = self._stream.average_rate or self._stream.guessed_rate
        usual = float(1 / rate) if rate else 0.0
        expected = 0.0  # for frames without a time of their own
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                raise MediaError(f"cut short or damaged at {expected:.2f} s")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise MediaError(f"damaged: the picture at {expected:.2f} s is not whole")
                time = expected if frame.time is None else frame.time - self._zero
                length = float(frame.duration * frame.time_base) if frame.duration else usual
                expected = time + length
                yield _Frame(frame, time, expected)


@dataclass(frozen=True)
class _Frame:
    """A decoded frame, and from when to when it is shown, in seconds from the beginning of the file."""

    frame: Any
    time: float
    end: float


@contextmanager
def _opened(uri: str) -> Iterator[tuple["av.container.InputContainer", Any]]:
    """A container and its video stream, decoded by one thread."""
    import av

    try:
        source = places.open_input(uri)
    except FileNotFoundError as error:
        raise MediaError("the file does not exist") from error
    except IsADirectoryError as error:
        raise MediaError("it is a folder, not a file") from error
    except PermissionError as error:
        raise MediaError("permission to read it is denied") from error
    with source:
        if not source.read(1):
            raise MediaError("the file is empty")
        source.seek(0)
        try:
            container = av.open(source, mode="r")
        except av.error.InvalidDataError as error:
            raise MediaError("it is not a video file that can be decoded, or it is damaged") from error
        except av.error.FFmpegError as error:
            raise MediaError(f"cannot be decoded: {error.strerror}") from error
        with container:
            films = [each for each in container.streams.video if not _is_cover(each)]
            if not films:
                raise MediaError("it has no video track")
            films[0].codec_context.thread_count = 1
            yield container, films[0]


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is a still picture that belongs to a song."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _zero(container: "av.container.InputContainer", stream: Any) -> float:
    """The file's own time of its beginning, in seconds."""
    import av

    if container.start_time is not None:
        return container.start_time / av.time_base
    return float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0


def _duration(container: "av.container.InputContainer", stream: Any) -> float:
    import av

    if stream.duration is not None:
        begin = 0.0
        if stream.start_time is not None:
            begin = float(stream.start_time * stream.time_base) - _zero(container, stream)
        return begin + float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / av.time_base
    return _measured_duration(container, stream)


def _measured_duration(container: "av.container.InputContainer", stream: Any) -> float:
    import av

    end = 0.0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        container.seek(0)
    except av.error.FFmpegError as error:
        raise MediaError("its pictures carry no times, or it is damaged") from error
    return end - _zero(container, stream)


def _outside(start: float, end: float | None, duration: float) -> str | None:
    """Why a part of a video cannot be had, or None where it can."""
    if duration <= 0:
        return "it holds no pictures"
    if end is not None and end <= start:
        return f"the part from {start:g} s to {end:g} s holds no pictures"
    if not 0 <= start < duration or (end is not None and end > duration + END_TOLERANCE):
        until = "on" if end is None else f"to {end:g} s"
        return f"the part from {start:g} s {until} lies outside the video of {duration:.3f} s"
    return None


def _upright(frame: Any) -> Picture:
    picture: Picture = frame.to_ndarray(format="rgb24")
    return np.rot90(picture, frame.rotation // 90) if frame.rotation else picture


def _half(picture: Picture, region: str | None) -> Picture:
    """A half of a picture on its own, so that the whole need not be kept."""
    half = picture.shape[1] // 2
    if region == "left":
        picture = picture[:, :half].copy()
    elif region == "right":
        picture = picture[:, picture.shape[1] - half :].copy()
    return np.ascontiguousarray(picture)
