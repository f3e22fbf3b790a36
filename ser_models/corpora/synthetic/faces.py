"""Talking heads, drawn with OpenCV: who they are stays, brows, eyes and mouth follow the emotion and the sound.

Shading is what face detectors look for (eyes darker than forehead and cheeks, a bright bridge of the nose), so
that detection and cropping can be practised: OpenCV's frontal face cascade finds the heads in nearly all frames.
"""

import dataclasses
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from ser_models.corpora.synthetic.speech import Signal, random_generator

Picture = npt.NDArray[np.uint8]

_OVERSAMPLING = 2
_SUBPIXEL = 4  # bits of a fraction in OpenCV's coordinates
_MOUTH_POINTS = np.linspace(-1.0, 1.0, 13)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """What stays the same in all pictures of a speaker.

    Attributes:
        skin: brightness, 0 to 1; so are hair, shirt and wall.
        hair, shirt, wall: as skin.
        width: of the head relative to the common one; so is height.
        height: as width.
        eyes: distance of an eye from the middle, in radii of the head.
        brows: thickness, in radii of the head.
        mouth: half its width, in radii of the head.
        long_hair: whether it falls to the shoulders.
    """

    skin: float
    hair: float
    shirt: float
    wall: float
    width: float
    height: float
    eyes: float
    brows: float
    mouth: float
    long_hair: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """The momentary state of a face; 0 everywhere is at rest.

    Attributes:
        smile: corners of the mouth, up for positive.
        frown: inner ends of the brows, down for positive.
        raised: both brows, up for positive.
        wide: eyes, wider for positive; -1 is shut.
        opening: of the mouth, 0 to 1.
        sway: place of the head, to the right in radii.
        nod: place of the head, downwards in radii.
    """

    smile: float = 0.0
    frown: float = 0.0
    raised: float = 0.0
    wide: float = 0.0
    opening: float = 0.0
    sway: float = 0.0
    nod: float = 0.0

    def values(self) -> Signal:
        """The fields as numbers, in the order of `LOOK_FIELDS`."""
        return np.array(dataclasses.astuple(self))

    @classmethod
    def from_values(cls, values: Signal) -> "Look":
        """The reverse of `values`."""
        return cls(**dict(zip(LOOK_FIELDS, values, strict=True)))


LOOK_FIELDS = tuple(field.name for field in dataclasses.fields(Look))


EMOTION_LOOKS: Mapping[str, Look] = {
    "neutral": Look(),
    "calm": Look(smile=0.2, wide=-0.15),
    "happy": Look(smile=0.9, raised=0.1, wide=-0.2, opening=0.15),
    "excited": Look(smile=0.9, frown=-0.1, raised=0.5, wide=0.25, opening=0.35),
    "sad": Look(smile=-0.7, frown=-0.8, wide=-0.25),
    "angry": Look(smile=-0.4, frown=0.9, raised=-0.5, wide=-0.1, opening=0.1),
    "frustrated": Look(smile=-0.5, frown=0.5, raised=-0.2, wide=-0.15),
    "fearful": Look(smile=-0.3, frown=-0.6, raised=0.7, wide=0.4, opening=0.2),
    "disgusted": Look(smile=-0.4, frown=0.4, raised=-0.5, wide=-0.45, opening=0.05),
    "surprised": Look(frown=-0.2, raised=0.9, wide=0.5, opening=0.45),
    "bored": Look(smile=-0.2, frown=-0.2, raised=0.1, wide=-0.5),
}
"""The typical look of each canonical emotion (our choice, after the usual descriptions of prototypes)."""

# Standard deviations of one speaker's way of showing an emotion, and of one utterance around that.
_MANNER, _UTTERANCE = 0.2, 0.3


def draw_face(seed: int, speaker: str, gender: str) -> Face:
    """The face of a speaker; depends on the arguments alone."""
    random = random_generator(seed, "face", speaker)
    return Face(
        skin=random.uniform(0.6, 0.82),
        hair=random.uniform(0.06, 0.35),
        shirt=random.uniform(0.15, 0.5),
        wall=random.uniform(0.35, 0.6),
        width=random.uniform(0.88, 1.0),
        height=random.uniform(0.95, 1.05),
        eyes=random.uniform(0.37, 0.43),
        brows=random.uniform(0.07, 0.12),
        mouth=random.uniform(0.33, 0.43),
        long_hair=gender == "female",
    )


def draw_look(seed: int, speaker: str, emotion: str, random: np.random.Generator) -> Look:
    """The look of one utterance: the emotion's, this speaker's way of showing it, and chance.

    Args:
        seed: of the corpus.
        speaker: whose face it is.
        emotion: a key of `EMOTION_LOOKS`.
        random: source of the utterance's own chance.
    """
    manner = random_generator(seed, "look", speaker, emotion)
    values = EMOTION_LOOKS[emotion].values()
    # The mouth's opening follows the sound; the place of the head belongs to no emotion.
    shaped = [LOOK_FIELDS.index(field) for field in ("smile", "frown", "raised", "wide")]
    values[shaped] += _MANNER * manner.standard_normal(4) + _UTTERANCE * random.standard_normal(4)
    return Look.from_values(values)


def mouth_openings(signal: Signal, sample_rate: int, frame_rate: float) -> Signal:
    """How far a mouth is open in each frame of a sound.

    Args:
        signal: samples ``[samples]``.
        sample_rate: Hz.
        frame_rate: pictures per second.

    Returns:
        0 to 1 ``[frames]``: the level of the sound in each frame relative to the loudest one.
    """
    frames = int(np.ceil(len(signal) * frame_rate / sample_rate))
    bounds = np.round(np.arange(frames) * sample_rate / frame_rate).astype(np.int64)
    energy = np.add.reduceat(signal**2, bounds) / np.diff(np.append(bounds, len(signal)))
    level: Signal = np.sqrt(energy / (energy.max() + 1e-12))
    return level


def draw_picture(face: Face, look: Look, width: int, height: int) -> Picture:
    """A head and shoulders before a wall, as grey levels ``[height, width]``."""
    canvas = _Canvas(face, look, width, height)
    canvas.head()
    canvas.eyes()
    canvas.mouth()
    return canvas.picture(width, height)


class _Canvas:
    """A picture in the making; lengths are in radii of the head, from its middle to the right and down."""

    def __init__(self, face: Face, look: Look, width: int, height: int) -> None:
        self.face, self.look = face, look
        size = (height * _OVERSAMPLING, width * _OVERSAMPLING)
        light = np.linspace(0.06, -0.06, size[0], dtype=np.float32)[:, None]
        self.pixels = np.ascontiguousarray(np.broadcast_to(face.wall + light, size))
        self.radius = 0.24 * size[0]
        self.middle = np.array([0.5 * size[1], 0.47 * size[0]]) + self.radius * np.array(
            [look.sway, look.nod]
        )

    def head(self) -> None:
        """Shoulders, neck, hair and skin, with dark eye sockets and bright cheeks and nose."""
        face = self.face
        self._ellipse(0.0, 2.0, 1.55, 0.85, face.shirt)
        self._ellipse(0.0, 1.1, 0.4, 0.6, 0.8 * face.skin)
        self._ellipse(0.0, -0.2, 1.1 * face.width, 1.3, face.hair)
        if face.long_hair:
            for side in (-1, 1):
                self._ellipse(0.9 * side * face.width, 0.6, 0.28, 0.9, face.hair)
        self._ellipse(0.0, 0.0, 0.92 * face.width, 1.2 * face.height, face.skin)
        self._ellipse(0.0, -0.65, 0.72 * face.width, 0.4, 1.08 * face.skin)
        for side in (-1, 1):
            self._glow(side * face.eyes, -0.22, 0.3, 0.2, -0.2)
            self._glow(side * 0.45, 0.25, 0.28, 0.22, 0.08)
            self._ellipse(side * 0.1, 0.32, 0.06, 0.04, 0.5 * face.skin)
        self._glow(0.0, 0.05, 0.11, 0.36, 0.12)

    def eyes(self) -> None:
        """Eyes and brows."""
        face, look = self.face, self.look
        for side in (-1, 1):
            lid = 0.1 * max(0.1, 1 + look.wide)
            self._ellipse(side * face.eyes, -0.2, 0.2, lid, 0.85)
            self._ellipse(side * face.eyes, -0.2, 0.09, min(lid, 0.11), 0.08)
            level = -0.48 - 0.12 * look.raised
            arch = np.array(
                [[0.15, level + 0.12 * look.frown], [0.42, level - 0.06], [0.68, level - 0.06 * look.frown]]
            )
            points = self._points(arch * (side, 1))
            thickness = max(1, round(face.brows * self.radius))
            cv2.polylines(self.pixels, [points], False, face.hair, thickness, cv2.LINE_AA, _SUBPIXEL)

    def mouth(self) -> None:
        """Lips whose corners smile, apart as far as the mouth is open."""
        across, look = _MOUTH_POINTS, self.look
        centre = 0.66 - 0.13 * look.smile * (across**2 - 0.4)
        gap = 0.04 + 0.14 * look.opening * (1 - across**2)
        outline = np.stack(
            [
                np.concatenate([across, across[::-1]]) * self.face.mouth,
                np.concatenate([centre - gap, (centre + 1.6 * gap)[::-1]]),
            ],
            axis=1,
        )
        cv2.fillPoly(self.pixels, [self._points(outline)], 0.5 * self.face.skin, cv2.LINE_AA, _SUBPIXEL)

    def picture(self, width: int, height: int) -> Picture:
        """The picture at its final size."""
        small = cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)
        return np.clip(np.rint(small * 255), 0, 255).astype(np.uint8)

    def _points(self, places: Signal) -> npt.NDArray[np.int32]:
        pixels = self.middle + self.radius * np.asarray(places)
        points: npt.NDArray[np.int32] = np.rint(pixels * 2**_SUBPIXEL).astype(np.int32)
        return points

    def _ellipse(self, x: float, y: float, across: float, down: float, grey: float) -> None:
        centre = self._points(np.array([x, y]))
        axes = np.rint(np.array([across, down]) * self.radius * 2**_SUBPIXEL).astype(int)
        cv2.ellipse(
            self.pixels,
            (int(centre[0]), int(centre[1])),
            (int(axes[0]), int(axes[1])),
            0,
            0,
            360,
            grey,
            -1,
            cv2.LINE_AA,
            _SUBPIXEL,
        )

    def _glow(self, x: float, y: float, across: float, down: float, grey: float) -> None:
        """Brighten a spot whose edge fades."""
        reach = 2.2 * max(across, down) * self.radius
        centre = self.middle + self.radius * np.array([x, y])
        low = np.maximum(0, np.floor(centre - reach)).astype(int)
        high = np.ceil(centre + reach).astype(int)
        part = self.pixels[low[1] : high[1], low[0] : high[0]]
        rows = (np.arange(low[1], low[1] + part.shape[0]) - centre[1]) / (down * self.radius)
        columns = (np.arange(low[0], low[0] + part.shape[1]) - centre[0]) / (across * self.radius)
        part += (grey * np.exp(-(rows**2))[:, None] * np.exp(-(columns**2))).astype(np.float32)
