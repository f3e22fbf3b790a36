"""Drawn faces: found by a face detector, moved by the sound, shaped by the emotion."""

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ser_models.corpora import EMOTIONS, load_corpus
from ser_models.corpora.synthetic import Settings, generate
from ser_models.corpora.synthetic.clips import FRAME_RATE, HEIGHT, SAMPLE_RATES, WIDTH, encode, render_clip
from ser_models.corpora.synthetic.faces import (
    EMOTION_LOOKS,
    Look,
    draw_face,
    draw_look,
    draw_picture,
    mouth_openings,
)
from ser_models.corpora.synthetic.performance import Performance, speak
from ser_models.corpora.synthetic.speech import random_generator
from ser_models.corpora.synthetic.words import syllables_of

PERFORMANCE = Performance(
    name="a",
    speaker="01F",
    gender="female",
    voice="happy",
    face="happy",
    syllables=syllables_of("Guess what, we finally won the party!"),
    seconds=1.3,
)


def frames_of(source: str | io.BytesIO) -> np.ndarray:
    """Grey frames ``[frames, height, width]``."""
    with av.open(source) as film:
        return np.stack([frame.to_ndarray(format="gray") for frame in film.decode(video=0)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("iemocap"))
    generate("iemocap", root, Settings(speakers=4, utterances=12, seconds=1.0))
    return root


def test_a_detector_of_frontal_faces_finds_one_face_in_each_half(corpus):
    cascade = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
    detector = cv2.CascadeClassifier(cascade)
    found = []
    for film in sorted(Path(corpus).rglob("*.avi")):
        for frame in frames_of(str(film))[::10]:
            assert frame.shape == (HEIGHT, WIDTH)
            for half in (frame[:, : WIDTH // 2], frame[:, WIDTH // 2 :]):
                found.append(len(detector.detectMultiScale(np.ascontiguousarray(half), 1.1, 3)) == 1)
    assert len(found) > 100
    assert np.mean(found) >= 0.8


def test_the_mouth_of_the_one_who_speaks_moves(corpus):
    table = load_corpus("iemocap", corpus)
    films = {uri: frames_of(uri).astype(float) for uri in set(table["video"].to_pylist())}
    speaking, listening = [], []
    for row in table.to_pylist():
        first, last = (round(row[name] * FRAME_RATE) for name in ("video_start", "video_end"))
        mouths = films[row["video"]][first:last, 60:90]
        halves = {"left": mouths[..., 25:55], "right": mouths[..., 105:135]}
        for region, half in halves.items():
            moved = np.abs(np.diff(half, axis=0)).mean()
            (speaking if region == row["video_region"] else listening).append(moved)
    assert np.mean(speaking) > 1.5 * np.mean(listening)
    assert np.mean(np.array(speaking) > np.array(listening)) > 0.8


def test_films_are_as_long_as_their_dialogue_and_sound_like_it(corpus):
    for film in sorted(Path(corpus).rglob("*_impro01.avi")):
        last = max(
            row["video_end"]
            for row in load_corpus("iemocap", corpus).to_pylist()
            if row["video"] == str(film)
        )
        with av.open(str(film)) as container:
            (sound,) = container.streams.audio
            video = container.streams.video[0]
            assert float(video.duration * video.time_base) == pytest.approx(last + 0.5, abs=1 / FRAME_RATE)
            assert float(sound.duration * sound.time_base) == pytest.approx(last + 0.5, abs=0.1)


@pytest.mark.parametrize(("container", "codecs"), [("mp4", ("h264", "aac")), ("avi", ("mpeg4", "mp2"))])
def test_a_clip_holds_pictures_and_the_sound_of_the_performance(container, codecs):
    settings = Settings(sample_rate=16000)
    content = render_clip(PERFORMANCE, settings, container)
    signal = speak(PERFORMANCE, 0, 16000)
    with av.open(io.BytesIO(content)) as film:
        assert (film.streams.video[0].codec_context.name, film.streams.audio[0].codec_context.name) == codecs
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)]).astype(float)
    spectrum = np.fft.rfft(sound, 2**16) * np.conj(np.fft.rfft(signal, 2**16))
    correlation = np.fft.irfft(spectrum).max() / (np.linalg.norm(sound) * np.linalg.norm(signal))
    assert correlation > 0.9  # a lossy codec at a low bit rate, delayed by some frames
    assert len(frames_of(io.BytesIO(content))) == int(np.ceil(len(signal) / 16000 * FRAME_RATE))


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_films_can_have_any_of_their_sample_rates(rate):
    signal = speak(PERFORMANCE, 0, rate)
    for container in ("mp4", "avi"):
        content = encode([np.zeros((HEIGHT, WIDTH), np.uint8)] * 5, signal, rate, container)
        with av.open(io.BytesIO(content)) as film:
            assert film.streams.audio[0].rate == rate


def test_the_mouth_opens_with_the_level_of_the_sound():
    signal = np.concatenate([np.zeros(8000), np.sin(np.arange(8000)), 0.5 * np.sin(np.arange(4000))])
    openings = mouth_openings(signal, 16000, 10)
    np.testing.assert_allclose(openings, [0.0] * 5 + [1.0] * 5 + [0.5] * 3, atol=0.02)


def test_an_open_mouth_is_larger_and_a_frown_lowers_the_brows():
    face = draw_face(0, "01F", "female")

    def picture(**look: float) -> np.ndarray:
        return draw_picture(face, Look(**look), 80, 120).astype(float)

    def dark(picture: np.ndarray) -> int:
        return int((picture[70:90, 25:55] < 0.7 * 255 * face.skin).sum())

    assert dark(picture(opening=1.0)) > dark(picture(opening=0.3)) > dark(picture())
    rows = np.arange(30, 50)[:, None]

    def brow_height(picture: np.ndarray) -> float:
        darkness = 255 - picture[30:50, 34:46]
        return float((rows * darkness).sum() / darkness.sum())

    assert brow_height(picture(frown=1.0)) > brow_height(picture(frown=-1.0))


def test_every_canonical_emotion_but_other_has_a_look_of_its_own():
    assert set(EMOTION_LOOKS) == set(EMOTIONS) - {"other"}
    face = draw_face(0, "01F", "female")
    pictures = {draw_picture(face, look, 80, 120).tobytes() for look in EMOTION_LOOKS.values()}
    assert len(pictures) == len(EMOTION_LOOKS)


def test_looks_vary_around_the_emotion_and_faces_between_speakers():
    random = random_generator("looks")
    drawn = [draw_look(0, f"{speaker:02d}F", "sad", random) for speaker in range(200)]
    assert np.mean([look.smile for look in drawn]) == pytest.approx(EMOTION_LOOKS["sad"].smile, abs=0.1)
    assert len({look.smile for look in drawn}) == 200
    assert draw_face(0, "01F", "female") == draw_face(0, "01F", "female") != draw_face(0, "02F", "female")
