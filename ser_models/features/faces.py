"""Face pictures: the visual input of AVDAL (Wei et al., Interspeech 2022).

Grey faces in the shape of a segment of the system's audio input, so that one encoder reads both.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.media import MediaError
from ser_models.features.video import LIBRARIES, Picture
from ser_models.features.views import Remarked

if TYPE_CHECKING:
    import cv2

Grey = NDArray[np.uint8]
"""[height, width]."""

NO_FACE = "no face found: centre crop"

_SCALE_STEP = 1.1  # between the sizes at which the cascade looks
_NEIGHBOURS = 5  # overlapping hits that make a face
_SMALLEST_FACE = 8  # a face is at least this part of the picture's shorter side …
_WINDOW = 24  # … and at least the cascade's own window, in pixels


@dataclass(frozen=True, kw_only=True)
class FaceFrames:
    """Faces at uniformly spaced times, [frames, height, width] uint8 grey levels.

    Rows run down the face and columns across it: the default picture of 224 rows and 40 columns, a face squeezed
    sideways, stands where AVDAL's audio segment has 224 frames of 40 bands. The paper's normalisation
    (x / 255 − 0.5) / 0.5 happens when the shard is loaded; shards keep the bytes.

    The times are the middles of ``frames`` equal parts of the utterance. In each picture OpenCV's frontal Haar
    cascade looks for faces, and the largest is taken. A picture without one gets the box that is nearest in
    time; then every box becomes the median of itself and its two neighbours (centre and side apart), which
    removes single false hits. The square box, widened by ``margin``, is cut out, shifted where it would cross
    the picture's edge, and resized by averaging areas. Without a face in any picture the largest centred square
    is taken and a remark returned.

    Sources: Wei et al. 2022 and the authors' code for the number of pictures, grey levels and size; they used
    faces cropped beforehand by means they do not name. Cascade, tracking and times are our choice.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "face_frames"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "video"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "opencv-python-headless")
    dtype: ClassVar[str] = "uint8"

    frames: int = 5
    """Pictures per utterance."""
    height: int = 224
    """Rows of the result."""
    width: int = 40
    """Columns of the result."""
    margin: float = 0.0
    """Added on each side of the detected box, as a part of its side."""
    detect_scale: float = 1.0
    """Factor by which pictures are scaled down before faces are sought: 0.5 is faster on large pictures, and finds
    no face of less than 48 pixels."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for setting in ("frames", "height", "width"):
            if getattr(self, setting) < 1:
                raise UserError(f"face_frames: {setting} must be at least 1, got {getattr(self, setting)}")
        if not 0.0 <= self.margin <= 2.0:
            raise UserError(f"face_frames: margin must lie in [0, 2], got {self.margin}")
        if not 0.0 < self.detect_scale <= 1.0:
            raise UserError(f"face_frames: detect_scale must lie in (0, 1], got {self.detect_scale}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (self.height, self.width)

    def times(self, duration: float) -> NDArray[np.float64]:
        """Seconds from the utterance's beginning, [frames] float64.

        >>> FaceFrames(frames=4).times(2.0)
        array([0.25, 0.75, 1.25, 1.75])
        """
        return (np.arange(self.frames) + 0.5) / self.frames * duration

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.uint8] | Remarked:
        """Cut the faces out.

        Args:
            pictures: [height, width, 3] uint8 RGB each, in the order of `times`.

        Returns:
            [frames, height, width] uint8; with a remark where no picture shows a face.

        Raises:
            MediaError: there are no pictures.
        """
        import cv2

        if not pictures:
            raise MediaError("it has no pictures to find a face in")
        cv2.setNumThreads(1)
        greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8) for picture in pictures]
        found = [largest_face(grey, self.detect_scale) for grey in greys]
        boxes = [_centre_square(grey) for grey in greys] if not any(found) else track(found)
        faces = np.stack(
            [
                cv2.resize(
                    _cut(grey, box, self.margin), (self.width, self.height), interpolation=cv2.INTER_AREA
                )
                for grey, box in zip(greys, boxes, strict=True)
            ]
        ).astype(np.uint8)
        return faces if any(found) else Remarked(faces, NO_FACE)


@dataclass(frozen=True)
class Box:
    """A square in a picture: its centre and its side, in pixels."""

    x: float
    y: float
    side: float


def largest_face(grey: Grey, scale: float = 1.0) -> Box | None:
    """The largest frontal face that OpenCV's Haar cascade finds, or None.

    Args:
        grey: [height, width] uint8.
        scale: the picture is scaled by this before.
    """
    import cv2

    if scale < 1.0:
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    else:
        small = grey
    smallest = max(_WINDOW, min(small.shape[:2]) // _SMALLEST_FACE)
    hits = _cascade().detectMultiScale(small, _SCALE_STEP, _NEIGHBOURS, minSize=(smallest, smallest))
    if not len(hits):
        return None
    x, y, side, _ = max(np.asarray(hits).tolist(), key=lambda hit: hit[2])
    return Box((x + side / 2) / scale, (y + side / 2) / scale, side / scale)


def track(found: Sequence[Box | None]) -> list[Box]:
    """A box for every picture from those found, ascending in time.

    A gap takes the box that is nearest in time, of two equally near the earlier; then the median over three
    neighbours smooths x, y and side.

    >>> track([None, Box(10, 10, 4), None, Box(90, 90, 4), Box(12, 10, 4), Box(13, 10, 4)])[4]
    Box(x=13.0, y=10.0, side=4.0)

    Raises:
        ValueError: none was found.
    """
    known = [index for index, box in enumerate(found) if box is not None]
    if not known:
        raise ValueError("there is no box to carry from one picture to another")
    nearest = [found[min(known, key=lambda other: abs(other - index))] for index in range(len(found))]
    values = np.array([(box.x, box.y, box.side) for box in nearest if box is not None])
    padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    return [Box(*map(float, row)) for row in smooth]


def _centre_square(grey: Grey) -> Box:
    height, width = grey.shape
    return Box(width / 2, height / 2, min(height, width))


def _cut(grey: Grey, box: Box, margin: float) -> Grey:
    """The box with its margin, moved into the picture, and made smaller only where the picture is."""
    height, width = grey.shape
    side = max(1, min(round(box.side * (1 + 2 * margin)), height, width))
    left = min(max(round(box.x - side / 2), 0), width - side)
    top = min(max(round(box.y - side / 2), 0), height - side)
    return grey[top : top + side, left : left + side]


@functools.cache
def _cascade() -> "cv2.CascadeClassifier":
    import cv2

    path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    return cv2.CascadeClassifier(str(path))
