"""The face view: it finds the face, follows it, and says where it found none."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from ser_models.errors import UserError
from ser_models.features import build_view
from ser_models.features.faces import NO_FACE, Box, FaceFrames, largest_face, track
from ser_models.features.media import MediaError
from ser_models.features.video import Picture, Wanted, read_duration, read_pictures
from ser_models.features.views import Remarked

GOLDEN = [126.87, 126.30, 131.14, 132.01, 133.26]


@pytest.fixture(scope="module")
def pictures(real_corpora: Path) -> list[Picture]:
    """Five pictures of one frontal face."""
    uri = str(real_corpora / "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4")
    ((_, found),) = read_pictures(uri, [Wanted(times=FaceFrames().times(read_duration(uri)))])
    assert isinstance(found, list)
    return found


def scene(grey: int = 128) -> Picture:
    """A picture without a face whose columns can be told apart."""
    picture = np.full((240, 320, 3), grey, np.uint8)
    picture[:, :, :] = (np.arange(320) // 2).astype(np.uint8)[None, :, None]
    return picture


def test_golden_values(pictures: list[Picture]) -> None:
    """Change these only together with FaceFrames.VERSION: shards made before would pass for new ones."""
    assert FaceFrames.VERSION == 1
    faces = build_view("face_frames")(pictures)
    assert isinstance(faces, np.ndarray)
    assert faces.shape == (5, 224, 40) and faces.dtype == np.uint8
    np.testing.assert_allclose(faces.mean((1, 2)), GOLDEN, atol=0.5)  # another processor's colour conversion
    np.testing.assert_array_equal(faces, build_view("face_frames")(pictures))


def test_the_crop_is_the_detected_box_resized(pictures: list[Picture]) -> None:
    still = [pictures[0]] * 3
    grey = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)
    box = largest_face(grey)
    assert box is not None and 350 < box.side < 450
    left, top, side = round(box.x - box.side / 2), round(box.y - box.side / 2), round(box.side)
    expected = cv2.resize(grey[top : top + side, left : left + side], (40, 224), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(build_view("face_frames", frames=3)(still), [expected] * 3)


def test_a_face_missed_in_one_picture_is_taken_from_its_neighbour(pictures: list[Picture]) -> None:
    hidden = pictures[1].copy()
    hidden[:400] = 90  # a board over eyes and nose
    assert largest_face(cv2.cvtColor(hidden, cv2.COLOR_RGB2GRAY)) is None
    faces = build_view("face_frames", frames=3)([pictures[0], hidden, pictures[0]])
    assert isinstance(faces, np.ndarray)
    whole = build_view("face_frames", frames=3)([pictures[0], pictures[1], pictures[0]])
    seen = np.s_[170:]  # below the board
    assert np.abs(faces[1, seen].astype(int) - whole[1, seen]).mean() < 6


def test_a_false_hit_does_not_move_the_crop() -> None:
    steady = Box(100, 80, 60)
    assert track([steady, steady, Box(10, 200, 300), steady, steady]) == [steady] * 5


def test_a_moving_face_is_followed_and_gaps_take_the_nearest() -> None:
    moving = [Box(float(x), 50.0, 40.0) for x in (10, 20, 30, 40, 50)]
    assert track(moving) == moving
    assert [box.x for box in track([None, None, moving[1], None, moving[4], None])] == [
        20,
        20,
        20,
        20,
        50,
        50,
    ]
    with pytest.raises(ValueError, match="no box"):
        track([None, None])


def test_without_a_face_the_centre_is_cut_and_remarked() -> None:
    result = build_view("face_frames", height=24, width=24)([scene()] * 5)
    assert isinstance(result, Remarked)
    assert result.remark == NO_FACE
    assert result.array.shape == (5, 24, 24)
    assert result.array[0, 0, [0, -1]].tolist() == [22, 137]  # columns 40 to 280, ten to a pixel
    assert (result.array == result.array[0, 0]).all()


def test_margin_widens_the_crop_and_stays_inside(pictures: list[Picture]) -> None:
    tight, wide = (
        build_view("face_frames", margin=margin, width=224)(pictures[:1])[0] for margin in (0.0, 0.2)
    )
    inner = wide[32:192, 32:192]  # 224 / 1.4 = 160
    assert np.corrcoef(cv2.resize(inner, (224, 224)).ravel(), tight.ravel())[0, 1] > 0.98
    huge = build_view("face_frames", margin=2.0)(pictures[:1])
    assert huge.shape == (1, 224, 40)


def test_scaling_down_finds_the_same_face(pictures: list[Picture]) -> None:
    grey = cv2.cvtColor(pictures[2], cv2.COLOR_RGB2GRAY)
    full, half = largest_face(grey), largest_face(grey, 0.5)
    assert full is not None and half is not None
    assert abs(full.x - half.x) < 10 and abs(full.y - half.y) < 10 and abs(full.side - half.side) < 16


def test_a_half_of_a_split_picture_holds_its_own_face(pictures: list[Picture], tmp_path: Path) -> None:
    """Two actors side by side, as IEMOCAP films them."""
    import av

    person = np.ascontiguousarray(pictures[0][:, 280:1000])
    empty = np.full_like(person, 60)
    with av.open(str(tmp_path / "split.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1440, 720, "yuv420p"
        stream.codec_context.bit_rate = 8_000_000
        for _ in range(20):
            both = np.concatenate([empty, person], axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(stream.encode(None))
    view = build_view("face_frames", frames=2)
    wanted = [
        Wanted(start=0.5, end=1.5, times=view.times(1.0), region="left"),
        Wanted(start=0.5, end=1.5, times=view.times(1.0), region="right"),
    ]
    found = dict(read_pictures(str(tmp_path / "split.avi"), wanted))
    assert isinstance(view(found[0]), Remarked)
    faces = view(found[1])
    assert isinstance(faces, np.ndarray)
    alone = view([person, person])
    assert np.abs(faces.astype(int) - alone).mean() < 6


def test_times_are_the_middles_of_equal_parts() -> None:
    np.testing.assert_allclose(build_view("face_frames").times(10.0), [1, 3, 5, 7, 9])


def test_the_view_can_be_sent_to_a_worker() -> None:
    view = build_view("face_frames", margin=0.1)
    assert pickle.loads(pickle.dumps(view)) == view
    assert view.shape == (224, 40)


def test_no_pictures_are_refused() -> None:
    with pytest.raises(MediaError, match="no pictures"):
        build_view("face_frames")([])


@pytest.mark.parametrize(
    "settings",
    [
        {"frames": 0},
        {"height": 0},
        {"width": -1},
        {"margin": -0.1},
        {"detect_scale": 0.0},
        {"detect_scale": 2.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"face_frames: {next(iter(settings))}"):
        build_view("face_frames", **settings)
