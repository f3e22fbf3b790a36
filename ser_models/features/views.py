"""The registry of views, and the notation by which a command line or a system names one.

A view turns one utterance into an array [frames, …]. Its *spec* is its name with the settings that differ
from the defaults: ``mfcc`` or ``mfcc[n_mfcc=40,samples=110000]``.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError


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
    """NumPy's name of the element type."""

    @property
    def sample_rate(self) -> int:
        """Hz that the waveform must have."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the output, after [frames]."""

    def __call__(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[Any]:
        """Compute [frames, *shape] from [samples]."""


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
        return build_view(self.name, **self.settings)

    def __str__(self) -> str:
        """Canonical form: only settings that differ from the defaults, sorted."""
        defaults = {field.name: field.default for field in dataclasses.fields(view_class(self.name))}
        given = [
            f"{key}={_written(value)}"
            for key, value in sorted(self.settings.items())
            if value != defaults[key]
        ]
        return f"{self.name}[{','.join(given)}]" if given else self.name


def build_view(name: str, **settings: Any) -> View:
    """Build a view by its registered name.

    Raises:
        UserError: an unknown name or setting, a wrong type or an impossible value.
    """
    kinds = _settings(name)
    for key, value in settings.items():
        if key not in kinds:
            raise UserError(f"view {name!r} has no setting {key!r}; it has {', '.join(kinds)}")
        if not _is(value, kinds[key]):
            raise UserError(f"view {name!r}: {key} must be {_described(kinds[key])}, got {value!r}")
        if float in kinds[key] and isinstance(value, int):
            settings[key] = float(value)
    return typing.cast(View, view_class(name)(**settings))


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
    for part in _split(text):
        spec = _parse(part)
        if spec in specs:
            raise UserError(f"views {text!r}: {spec} is given twice")
        specs.append(spec)
    return specs


def _split(text: str) -> list[str]:
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
            settings[key] = _read_value(value, kinds.get(key, (str,)))
    view: Any = build_view(name, **settings)
    return ViewSpec(name, dataclasses.asdict(view))


def _settings(name: str) -> dict[str, tuple[type, ...]]:
    """Settings of a view and the types that each may have."""
    view = view_class(name)
    hints = typing.get_type_hints(view)
    return {
        field.name: typing.get_args(hints[field.name]) or (hints[field.name],)
        for field in dataclasses.fields(view)
    }


def _read_value(text: str, kinds: tuple[type, ...]) -> Any:
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


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _described(kinds: tuple[type, ...]) -> str:
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
