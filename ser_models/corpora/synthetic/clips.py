"""Films of talking heads: frames from performances, and their encoding with FFmpeg (PyAV)."""

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np

from ser_models.corpora.synthetic.faces import (
    LOOK_FIELDS,
    Look,
    Picture,
    draw_face,
    draw_look,
    draw_picture,
    mouth_openings,
)
from ser_models.corpora.synthetic.performance import Performance, speak
from ser_models.corpora.synthetic.plan import Settings
from ser_models.corpora.synthetic.speech import Signal, random_generator

FRAME_RATE = 10
"""Pictures per second."""
WIDTH, HEIGHT = 160, 120
"""Pixels of a frame."""
SAMPLE_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""Hz that the sound of every film can have (those of AAC)."""

_CODECS = {"mp4": ("h264", "aac"), "avi": ("mpeg4", "mp2")}
_MP2_RATES = (16000, 22050, 24000, 32000, 44100, 48000)
_RAMP = 0.2  # seconds in which a face changes
_BLINKS = 0.03  # probability that a frame shows one
_SWAY = 0.03  # how far a head moves, in its radii
_OPENING, _WIDE = LOOK_FIELDS.index("opening"), LOOK_FIELDS.index("wide")
_PLACE = [LOOK_FIELDS.index("sway"), LOOK_FIELDS.index("nod")]


def render_clip(performance: Performance, settings: Settings, container: str) -> bytes:
    """A film of one utterance, sound included; ``container`` is ``mp4`` or ``avi``."""
    signal = speak(performance, settings.seed, settings.sample_rate)
    frames = film_actor(
        performance.speaker,
        performance.gender,
        [(0.0, performance)],
        len(signal) / settings.sample_rate,
        settings,
        name=performance.name,
        width=WIDTH,
    )
    return encode(frames, signal, settings.sample_rate, container)


def film_actor(
    speaker: str,
    gender: str,
    turns: Sequence[tuple[float, Performance]],
    seconds: float,
    settings: Settings,
    *,
    name: str,
    width: int,
) -> Iterable[Picture]:
    """The frames of one actor who speaks at times and is at rest between them.

    Args:
        speaker: who is to be seen.
        gender: ``female`` or ``male``.
        turns: the actor's own turns, each with its start in seconds.
        seconds: length of the film.
        settings: of the corpus.
        name: of the film; the source of small movements.
        width: of a frame in pixels; its height is `HEIGHT`.

    Yields:
        Grey levels ``[height, width]``.
    """
    face = draw_face(settings.seed, speaker, gender)
    random = random_generator(settings.seed, "movements", name, speaker)
    count = int(np.ceil(seconds * FRAME_RATE))
    times = np.arange(count) / FRAME_RATE
    rest = draw_look(
        settings.seed, speaker, "neutral", random_generator(settings.seed, "rest", name, speaker)
    )
    looks = np.tile(rest.values(), (count, 1))
    for start, turn in turns:
        signal = speak(turn, settings.seed, settings.sample_rate)
        chance = random_generator(settings.seed, "turn seen", turn.name)
        shown = draw_look(settings.seed, speaker, turn.face, chance).values()
        end = start + len(signal) / settings.sample_rate
        present = np.clip(np.minimum(times - start, end - times) / _RAMP + 1.0, 0.0, 1.0)[:, None]
        looks += present * (shown - looks)
        mouth = mouth_openings(signal, settings.sample_rate, FRAME_RATE)
        first = round(start * FRAME_RATE)
        spoken = looks[first : first + len(mouth), _OPENING]
        spoken += 0.8 * mouth[: len(spoken)]
    looks[:, _PLACE] += _SWAY * _wander(count, random)
    looks[random.random(count) < _BLINKS, _WIDE] = -1.0
    looks[:, _OPENING] = np.clip(looks[:, _OPENING], 0.0, 1.0)
    for look in looks:
        yield draw_picture(face, Look.from_values(look), width, HEIGHT)


def encode(frames: Iterable[Picture], signal: Signal, sample_rate: int, container: str) -> bytes:
    """Encode grey frames ``[height, width]`` and samples ``[samples]`` as a film.

    On one machine equal input gives equal bytes: one thread, and no version or date in the file.
    """
    buffer = io.BytesIO()
    video_codec, audio_codec = _CODECS[container]
    if audio_codec == "mp2" and sample_rate not in _MP2_RATES:
        audio_codec = "pcm_s16le"
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as film:
        video = cast(av.VideoStream, film.add_stream(video_codec, rate=FRAME_RATE))
        audio = cast(av.AudioStream, film.add_stream(audio_codec, rate=sample_rate, layout="mono"))
        if video_codec == "h264":
            # x264's look-ahead reads memory that it has not written, so that bytes would differ from run to run.
            no_lookahead = "mbtree=0:bframes=0:weightp=0:rc-lookahead=0"
            video.options = {"preset": "veryfast", "crf": "24", "x264-params": no_lookahead}
        else:
            video.bit_rate = 100_000
        for stream in (video, audio):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
            stream.codec_context.thread_count = 1
        audio.bit_rate = 32_000
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = Fraction(1, FRAME_RATE)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(_without_colour(picture), format="yuv420p")
            frame.pts = index
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        _encode_sound(film, audio, signal, sample_rate)
    return buffer.getvalue()


def _without_colour(picture: Picture) -> Picture:
    """Grey levels ``[height, width]`` as brightness above the two planes of colour ``[1.5 height, width]``."""
    brightness = 16 + np.rint(picture * (219 / 255)).astype(np.uint8)
    return np.vstack([brightness, np.full((picture.shape[0] // 2, picture.shape[1]), 128, np.uint8)])


def _encode_sound(
    film: av.container.OutputContainer, stream: av.AudioStream, signal: Signal, sample_rate: int
) -> None:
    samples = np.round(signal * 32767).astype(np.int16)[None, :]
    size = stream.codec_context.frame_size or 1024
    for start in range(0, samples.shape[1], size):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[:, start : start + size]), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        film.mux(stream.encode(frame))
    film.mux(stream.encode(None))


def _wander(count: int, random: np.random.Generator) -> Signal:
    """Slow movements of about unit size ``[frames, 2]``."""
    steps = random.standard_normal((count, 2))
    kernel = np.hanning(FRAME_RATE + 2)
    smooth = np.stack([np.convolve(column, kernel, "same") for column in steps.T], axis=1)[:count]
    wandering: Signal = smooth / np.sqrt(np.sum(kernel**2))
    return wandering
