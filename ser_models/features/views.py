"""The registry of views, and the notation by which a command line or a system names one.

A view turns one utterance into an array [frames, …]. Its *spec* is its name with the settings that differ
from the defaults: ``mfcc`` or ``mfcc[n_mfcc=40,samples=110000]``. A view that hears may have its waveform prepared by
the steps of `ser_models.features.enhance`, in order: ``mfcc[prepare=denoise+loudness]``.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError

if TYPE_CHECKING:
    import torch


class View(Protocol):
    """What every view is: a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    """As registered."""
    VERSION: ClassVar[int]
    """Raised whenever the output changes: it is part of the shards' fingerprint."""
    source: ClassVar[str]
    """What it reads: ``audio``, ``video`` or ``text``."""
    libraries: ClassVar[tuple[str, ...]]
    """Distributions whose versions decide the output."""
    dtype: ClassVar[str]
    """NumPy's name of the element type, or ``str``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the output, after [frames]."""


class AudioView(View, Protocol):
    """A view that hears."""

    @property
    def sample_rate(self) -> int:
        """Hz that the waveform must have."""

    def __call__(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[Any]:
        """Compute [frames, *shape] from [samples]."""


class VideoView(View, Protocol):
    """A view that sees."""

    def times(self, duration: float) -> NDArray[np.float64]:
        """Seconds from the utterance's beginning, ascending, of the pictures that it wants of so many seconds."""

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
        """Compute [frames, *shape] from pictures [height, width, 3], red, green, blue."""


class TextView(View, Protocol):
    """A view that reads transcripts."""

    def __call__(self, text: str) -> NDArray[Any]:
        """Compute [tokens, *shape]."""


class Encoder(View, Protocol):
    """A neural network: what it is called with is prepared by `__call__` and encoded by what `load` returns."""

    encoder: ClassVar[bool]

    @property
    def weights(self) -> str:
        """Sha256 that names the content of the weights."""

    def load(self, device: torch.device) -> Callable[[list[NDArray[Any]]], list[NDArray[Any]]]:
        """Load the network; what is returned encodes many prepared inputs, in order."""


class Remarked(NamedTuple):
    """What a view returns where something worth counting happened.

    Attributes:
        array: the output.
        remark: for a person, such as ``no face found: centre crop``.
    """

    array: NDArray[Any]
    remark: str


VIEWS: dict[str, str] = {
    "mfcc": "ser_models.features.mfcc:Mfcc",
    "spectrogram": "ser_models.features.spectrogram:Spectrogram",
    "cqt": "ser_models.features.cqt:Cqt",
    "log_filterbank": "ser_models.features.filterbank:LogFilterbank",
    "waveform": "ser_models.features.waveform:Samples",
    "silence_mask": "ser_models.features.silence:SilenceMask",
    "low_level_descriptors": "ser_models.features.opensmile_views:LowLevelDescriptors",
    "functionals": "ser_models.features.opensmile_views:Functionals",
    "descriptors": "ser_models.features.descriptors:Descriptors",
    "face_frames": "ser_models.features.faces:FaceFrames",
    "video_embedding": "ser_models.features.video_embedding:VideoEmbedding",
    "ssl": "ser_models.features.speech_embedding:SpeechEmbedding",
    "transcript": "ser_models.features.transcript:Transcript",
    "words": "ser_models.features.words:Words",
    "text_embedding": "ser_models.features.text_embedding:TextEmbedding",
}
"""Name → module and class, imported on first use: only who asks for an encoder pays for loading torch. A new view is
one line here."""


def view_class(name: str) -> Any:
    """The class of a view.

    Raises:
        UserError: there is no such view, or a package that it needs is not installed.
    """
    if name not in VIEWS:
        raise UserError(f"there is no view {name!r}; there are {', '.join(VIEWS)}")
    module, _, attribute = VIEWS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class ViewSpec:
    """A view's name and all its settings.

    Attributes:
        name: as registered.
        settings: every setting, defaults included.
    """

    name: str
    settings: Mapping[str, Any]

    def build(self) -> View:
        """The view itself."""
        return typing.cast(View, build_view(self.name, **self.settings))

    def __str__(self) -> str:
        """Canonical form: only settings that differ from the defaults, sorted."""
        defaults = {field.name: field.default for field in dataclasses.fields(view_class(self.name))}
        defaults[PREPARE] = ""
        given = [
            f"{key}={_written(value)}"
            for key, value in sorted(self.settings.items())
            if value != defaults[key]
        ]
        return f"{self.name}[{','.join(given)}]" if given else self.name


PREPARE = "prepare"
"""The setting of every view that hears which names the steps before it."""


@dataclass(frozen=True)
class Prepared:
    """A view that hears a prepared waveform; in all else it is the view itself.

    Attributes:
        view: the view.
        steps: names in `ser_models.features.enhance.STEPS`, in the order in which they are taken.
    """

    view: Any
    steps: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "view":  # while it is being unpickled there is no view yet
            raise AttributeError(name)
        return getattr(self.view, name)

    @property
    def VERSION(self) -> str:  # noqa: N802 (a view's own name for it)
        """Of the view and of the steps."""
        from ser_models.features import enhance

        return f"{self.view.VERSION}+{enhance.VERSION}"

    def __call__(self, waveform: NDArray[np.float32], sample_rate: int) -> Any:
        """Prepare the waveform and compute the view of it."""
        from ser_models.features import enhance

        for step in self.steps:
            waveform = enhance.STEPS[step](waveform, sample_rate)
        return self.view(waveform, sample_rate)


def build_view(name: str, **settings: Any) -> Any:
    """Build a view by its registered name; how it is called depends on what it reads.

    Raises:
        UserError: an unknown name or setting, a wrong type or an impossible value.
    """
    prepare = settings.pop(PREPARE, "")
    kinds = _settings(name)
    for key, value in settings.items():
        if key not in kinds:
            raise UserError(f"view {name!r} has no setting {key!r}; it has {', '.join(kinds)}")
        if not is_of(value, kinds[key]):
            raise UserError(f"view {name!r}: {key} must be {described(kinds[key])}, got {value!r}")
        if float in kinds[key] and isinstance(value, int):
            settings[key] = float(value)
    view = view_class(name)(**settings)
    return _prepared(view, prepare) if prepare else view


def is_encoder(view: View) -> bool:
    """Whether a view is a neural network, which is loaded once and reads many utterances at a time."""
    return bool(getattr(view, "encoder", False))


def reads_words(text: str) -> bool:
    """Whether a view, given as its spec, knows words: it reads transcripts, or its encoder recognises speech."""
    view = parse_specs(text)[0].build()
    return view.source == "text" or getattr(view, "reads_words", False)


def parse_specs(text: str) -> list[ViewSpec]:
    """Read a comma-separated list of specs.

    >>> [str(spec) for spec in parse_specs("mfcc, mfcc[samples=110000,n_mfcc=39]")]
    ['mfcc', 'mfcc[samples=110000]']

    Raises:
        UserError: the text is malformed, a view or setting is unknown, or a spec is given twice.
    """
    specs: list[ViewSpec] = []
    for part in split_list(text):
        spec = _parse(part)
        if spec in specs:
            raise UserError(f"views {text!r}: {spec} is given twice")
        specs.append(spec)
    return specs


def pretrained_on(text: str) -> tuple[str, ...]:
    """The corpora on which the encoder of a view, given as its spec, is known to have been trained."""
    return tuple(getattr(parse_specs(text)[0].build(), "pretrained_on", ()))


def split_list(text: str) -> list[str]:
    """Split at the commas that are outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if not 0 <= depth <= 1:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    if depth != 0 or not all(parts):
        raise UserError(f"views {text!r} cannot be read; write for example mfcc or mfcc,mfcc[samples=110000]")
    return parts


def _parse(text: str) -> ViewSpec:
    name, bracket, rest = text.partition("[")
    name = name.strip()
    kinds = _settings(name)
    settings: dict[str, Any] = {}
    if bracket:
        if not rest.endswith("]"):
            raise UserError(f"view {text!r}: nothing may follow the closing bracket")
        for assignment in rest[:-1].split(","):
            key, equals, value = (part.strip() for part in assignment.partition("="))
            if not equals or not key:
                raise UserError(f"view {text!r}: settings are written name=value, got {assignment.strip()!r}")
            if key in settings:
                raise UserError(f"view {text!r}: {key} is given twice")
            settings[key] = read_value(value, kinds.get(key, (str,)))
    prepare = settings.pop(PREPARE, "")
    complete = dataclasses.asdict(build_view(name, **settings))
    if prepare:
        complete[PREPARE] = "+".join(build_view(name, **settings, prepare=prepare).steps)
    return ViewSpec(name, complete)


def _prepared(view: Any, prepare: str) -> Prepared:
    from ser_models.features import enhance

    steps = tuple(step.strip() for step in prepare.split("+"))
    if unknown := [step for step in steps if step not in enhance.STEPS]:
        raise UserError(
            f"view {view.name!r}: prepare={prepare}: no step {unknown[0]!r}; there are {', '.join(enhance.STEPS)}, "
            "joined by +"
        )
    if view.source != "audio":
        raise UserError(f"view {view.name!r} reads {view.source}: prepare is for views that hear")
    return Prepared(view, steps)


def _settings(name: str) -> dict[str, tuple[type, ...]]:
    """Settings of a view and the types that each may have."""
    view = view_class(name)
    hints = typing.get_type_hints(view)
    return {
        field.name: typing.get_args(hints[field.name]) or (hints[field.name],)
        for field in dataclasses.fields(view)
    }


def read_value(text: str, kinds: tuple[type, ...]) -> Any:
    """The value that a text stands for, or the text itself where it fits no allowed type."""
    if types.NoneType in kinds and text.lower() in {"none", "null"}:
        return None
    if bool in kinds and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a setting's value has one of its types; an integer is a number too."""
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def described(kinds: tuple[type, ...]) -> str:
    """The types of a setting in words, for errors."""
    words = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        types.NoneType: "none",
    }
    return " or ".join(words[kind] for kind in kinds)


def _written(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
