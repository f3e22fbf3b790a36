"""Pictures from video files: the right one for every time, and a reason where there is none."""

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from ser_models.features import video
from ser_models.features.media import MediaError
from ser_models.features.video import Wanted, read_duration, read_pictures

RATE = 10
BITS = 10


def draw(number: int, height: int = 48, width: int = 160) -> np.ndarray:
    """A picture whose left half shows its number in vertical bars, lowest bit first, and the right half the inverse."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], dtype=np.uint8) * 255
    bars = np.repeat(bits, width // 2 // BITS)
    return np.repeat(np.concatenate([bars, 255 - bars])[None, :, None], height, 0).repeat(3, 2)


def read_number(half: np.ndarray) -> int:
    """The number that a left half shows."""
    bars = half[..., 0].reshape(half.shape[0], BITS, -1).mean((0, 2)) > 127
    return int((bars << np.arange(BITS)).sum())


def shoot(
    path: Path,
    ticks: Sequence[int],
    codec: str = "mpeg4",
    key_pictures: int = 12,
    b_frames: int = 0,
    rotation: int = 0,
    sound: float = 0.0,
) -> str:
    """A video whose picture n is shown from ``ticks[n]`` tenths of a second on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 48, "yuv420p"
        stream.codec_context.gop_size = key_pictures
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.bit_rate = 2_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream("mp2", rate=16000, layout="mono") if sound else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = np.zeros((1, round(sound * 16000)), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate, frame.pts = 16000, 0
            container.mux(tone.encode(frame))
            container.mux(tone.encode(None))
    return str(path)


def numbers(uri: str, wanted: Sequence[Wanted]) -> list[list[int] | str]:
    """Per utterance the numbers of its pictures, or the reason why there are none."""
    found: dict[int, list[int] | str] = {}
    for index, pictures in read_pictures(uri, wanted):
        assert index not in found
        if isinstance(pictures, MediaError):
            found[index] = str(pictures)
        else:
            shown = [
                picture[:, : picture.shape[1] // 2] if wanted[index].region is None else picture
                for picture in pictures
            ]
            found[index] = [read_number(each) for each in shown]
    return [found[index] for index in range(len(wanted))]


KINDS = {
    "mp4-h264": ("film.mp4", {"codec": "libx264", "b_frames": 2, "key_pictures": 25}),
    "mp4-mpeg4": ("film.mp4", {"codec": "mpeg4"}),
    "avi-mpeg4": ("film.avi", {"codec": "mpeg4"}),
    "avi-sound": ("film.avi", {"codec": "mpeg4", "sound": 60.0}),
    "mkv-h264": ("film.mkv", {"codec": "libx264", "b_frames": 2}),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def film(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """60 seconds, picture n from n/10 s on."""
    name, settings = request.param
    return shoot(tmp_path / name, range(600), **settings)


def test_every_time_gets_the_picture_on_the_screen(film: str) -> None:
    assert read_duration(film) == pytest.approx(60, abs=0.25)
    every = Wanted(times=np.arange(600) / RATE)
    between = Wanted(start=30.0, end=31.0, times=np.array([0.0, 1 / 3, 2 / 3, 0.99]), region="left")
    assert numbers(film, [every, between]) == [list(range(600)), [300, 303, 306, 309]]


def test_long_gaps_are_jumped_and_give_the_same_pictures(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        Wanted(start=start, end=start + 2, times=np.array([0.05, 1.55])) for start in (47.3, 2.0, 21.1, 56.0)
    ]
    expected = [[473, 488], [20, 35], [211, 226], [560, 575]]
    assert numbers(film, wanted) == expected
    monkeypatch.setattr(video, "JUMP", 1e9)
    assert numbers(film, wanted) == expected


def test_a_jump_does_not_decode_what_lies_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = shoot(tmp_path / "film.avi", range(600))
    decoded = []
    decode = video._Film._decode
    monkeypatch.setattr(
        video._Film, "_decode", lambda film: (decoded.append(f.time) or f for f in decode(film))
    )
    assert numbers(uri, [Wanted(start=50, end=52, times=np.array([0.0, 1.0]))]) == [[500, 510]]
    assert len(decoded) < 40


def test_bidirectional_pictures_in_avi_are_one_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVI keeps no presentation times: what FFmpeg derives is the decoder's delay, as in every player."""
    uri = shoot(tmp_path / "film.avi", range(600), b_frames=2)
    wanted = [Wanted(start=start, times=np.array([0.0, 0.1, 0.2])) for start in (0.0, 30.0, 59.0)]
    expected = [[0, 0, 1], [299, 300, 301], [589, 590, 591]]
    assert numbers(uri, wanted) == expected
    monkeypatch.setattr(video, "JUMP", 1e9)
    assert numbers(uri, wanted) == expected


def test_overlapping_utterances_each_get_their_half(film: str) -> None:
    times = np.array([0.0, 0.5, 1.0])
    wanted = [
        Wanted(start=10.0, end=12.0, times=times, region="right"),
        Wanted(start=10.5, end=12.0, times=times, region="left"),
        Wanted(start=11.0, end=13.0, times=np.empty(0)),
    ]
    found = dict(read_pictures(film, wanted))
    assert [picture.shape for picture in found[0]] == [(48, 80, 3)] * 3
    assert [read_number(255 - picture) for picture in found[0]] == [100, 105, 110]
    assert [read_number(picture) for picture in found[1]] == [105, 110, 115]
    assert found[2] == []
    assert all(picture.base is None and picture.dtype == np.uint8 for picture in found[0])


def test_an_odd_width_loses_its_middle_column() -> None:
    picture = np.arange(7, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert video._half(picture, "left")[0, :, 0].tolist() == [0, 1, 2]
    assert video._half(picture, "right")[0, :, 0].tolist() == [4, 5, 6]


def test_pictures_of_uneven_length(tmp_path: Path) -> None:
    uri = shoot(tmp_path / "film.mp4", [0, 1, 2, 20, 21, 50])
    assert numbers(uri, [Wanted(times=np.array([0.15, 0.2, 1.9, 2.0, 4.9, 5.0]))]) == [[1, 2, 2, 3, 4, 5]]


def test_a_file_that_begins_later_than_zero(tmp_path: Path) -> None:
    uri = shoot(tmp_path / "film.ts", range(1000, 1100))
    assert read_duration(uri) == pytest.approx(10, abs=0.15)
    assert numbers(
        uri, [Wanted(times=np.array([0.0, 0.5, 9.9])), Wanted(start=3.0, times=np.array([0.1]))]
    ) == [
        [0, 5, 99],
        [31],
    ]


def test_a_file_that_does_not_state_its_length(tmp_path: Path) -> None:
    """As browsers record: the writer could not go back to the header."""

    class Pipe:
        def __init__(self, path: Path) -> None:
            self.stream = path.open("wb")

        def write(self, content: bytes) -> int:
            return self.stream.write(content)

    pipe = Pipe(tmp_path / "film.mkv")
    with (
        av.open(shoot(tmp_path / "film.mp4", range(100), b_frames=0)) as source,
        av.open(pipe, "w", format="matroska") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    pipe.stream.close()
    uri = str(tmp_path / "film.mkv")
    with av.open(uri) as container:
        assert container.duration is None
    assert read_duration(uri) == pytest.approx(10)
    assert numbers(
        uri, [Wanted(start=3.0, times=np.array([0.1, 6.9])), Wanted(start=11, times=np.array([0.0]))]
    ) == [
        [31, 99],
        "the part from 11 s on lies outside the video of 10.000 s",
    ]


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    write_song(path)
    with av.open(str(path)) as song, av.open(str(tmp_path / "covered.mp4"), "w") as target:
        tone = target.add_stream_from_template(song.streams.audio[0])
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 160, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        target.mux(cover.encode(av.VideoFrame.from_ndarray(draw(1), format="rgb24")))
        for packet in song.demux(audio=0):
            if packet.dts is not None:
                packet.stream = tone
                target.mux(packet)
    with pytest.raises(MediaError, match="no video track"):
        read_duration(str(tmp_path / "covered.mp4"))


def test_pictures_that_begin_after_the_sound(tmp_path: Path) -> None:
    uri = shoot(tmp_path / "film.mkv", range(20, 60), sound=6.0)
    assert numbers(uri, [Wanted(times=np.array([0.0, 2.0, 2.1, 5.9]))]) == [[0, 0, 1, 39]]


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    uri = shoot(tmp_path / "film.mp4", range(5), rotation=90)
    ((_, pictures),) = read_pictures(uri, [Wanted(times=np.array([0.3]))])
    assert pictures[0].shape == (160, 48, 3)
    assert read_number(np.rot90(pictures[0], -1)[:, :80]) == 3


def test_a_part_outside_the_file_is_refused(film: str) -> None:
    times = np.array([0.0])
    wanted = [
        Wanted(start=61.0, end=62.0, times=times),
        Wanted(start=59.0, end=62.0, times=times),
        Wanted(start=5.0, end=5.0, times=times),
        Wanted(start=-1.0, end=5.0, times=times),
        Wanted(start=59.0, end=60.05, times=times),
    ]
    found = numbers(film, wanted)
    assert "outside the video of 60" in found[0] and "outside" in found[1] and "outside" in found[3]
    assert found[2] == "the part from 5 s to 5 s holds no pictures"
    assert found[4] == [590]


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "film.mkv"])
def test_of_a_file_cut_short_the_pictures_before_the_cut_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "film.mp4":  # with its index at the head, as files for streaming have it
        with (
            av.open(shoot(tmp_path / "whole.mp4", range(600))) as source,
            av.open(str(path), "w", options={"movflags": "faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    else:
        shoot(path, range(600))
    os.truncate(path, path.stat().st_size // 2)
    found = numbers(
        str(path),
        [Wanted(start=start, end=start + 1, times=np.array([0.0, 0.5])) for start in (1, 10, 20, 40, 50, 58)],
    )
    assert found[:3] == [[10, 15], [100, 105], [200, 205]]
    for reason in found[3:]:
        assert "cut short" in reason or "damaged" in reason or "outside" in reason


def test_damage_in_the_middle_costs_only_what_it_touches(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    shoot(path, range(600), codec="libx264", key_pictures=10)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = next(p for p in container.demux(video=0) if p.pts is not None and p.pts * p.time_base >= 30)
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    wanted = [
        Wanted(start=start, end=start + 1, times=np.array([0.0, 0.5, 0.9])) for start in (29, 29.5, 30, 35)
    ]
    before, reaching, touched, after = numbers(str(path), wanted)
    assert before == [290, 295, 299]  # up to the last picture before the damage
    assert "damaged" in reaching and "damaged" in touched
    assert after == [350, 355, 359]


def nothing(path: Path) -> None:
    pass


def write_song(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nothing, "the file does not exist"),
        (Path.touch, "the file is empty"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.write_bytes(b"no video at all" * 100), "it is not a video file"),
        (write_song, "it has no video track"),
    ],
)
def test_a_file_without_pictures_is_refused_for_every_utterance(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    make(path)
    for found in numbers(str(path), [Wanted(times=np.array([0.0]))] * 2):
        assert reason in found
    with pytest.raises(MediaError, match=reason):
        read_duration(str(path))


def test_s3_gives_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = shoot(tmp_path / "film.avi", range(300))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="films")
        client.upload_file(uri, "films", "film.avi")
        wanted = [Wanted(start=20.0, end=21.0, times=np.array([0.0, 0.5]))]
        assert numbers("s3://films/film.avi", wanted) == numbers(uri, wanted) == [[200, 205]]
        assert numbers("s3://films/none.avi", wanted) == ["the file does not exist"]
    finally:
        server.stop()


def test_a_real_clip(real_corpora: Path) -> None:
    uri = str(real_corpora / "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4")
    assert read_duration(uri) == pytest.approx(3.3033, abs=1e-3)
    ((_, pictures),) = read_pictures(uri, [Wanted(times=np.array([0.0, 0.99, 3.28]))])
    with av.open(uri) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for picture, number in zip(pictures, [0, 29, 97], strict=True):
        np.testing.assert_array_equal(picture, frames[number])
