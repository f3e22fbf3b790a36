"""Every protocol under its name: which utterances train, select and test, and which leaks that is known to have.

A name ending in ``-published`` is a paper's own protocol, leaks named. The others are ours: test and validation
speakers or sessions are strangers to training, and the model is selected on validation only. ``A-to-B`` trains on one
corpus and tests on another. Endings narrow any protocol down, see `ENDINGS`: ``iemocap4-session-improvised``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ser_models.errors import UserError
from ser_models.models.labels import LABEL_SETS

Validation = Literal["speakers", "session", "part", "none", "test"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which utterances train, select and test.

    Attributes:
        name: as registered.
        description: one sentence for reports.
        label_set: name in `ser_models.models.labels.LABEL_SETS`.
        scheme: how test parts are made, a key of `ser_models.protocols.folds.SCHEMES`.
        corpora: the corpora that it is made for, a corpus to train on and one to test on for ``cross-corpus``;
            empty: any one.
        n_folds: of schemes that take a number.
        seed: of schemes with chance.
        validation: ``speakers`` holds out other speakers of the training part; ``session`` the next session;
            ``part`` is what the scheme itself gives; ``none`` trains on all of it; ``test`` reuses the test part (a
            leak).
        validation_speakers: how many, for ``speakers``.
        selection: keep the ``last`` epoch, or the one with the ``best`` validation UAR.
        scenario: only ``improvised`` or ``scripted`` utterances; None: all.
        disjoint: what training utterances must not share with the test and validation parts (keys of
            `ser_models.protocols.leaks.LEAKS`); those that do are dropped, and counted.
        leaks: names of the leaks that this protocol is known to have; any other one stops a run.
        unit: the independent unit of confidence intervals.
    """

    name: str
    description: str
    label_set: str
    scheme: str
    corpora: tuple[str, ...] = ()
    n_folds: int | None = None
    seed: int = 0
    validation: Validation = "speakers"
    validation_speakers: int = 2
    selection: Literal["last", "best"] = "best"
    scenario: Literal["improvised", "scripted"] | None = None
    disjoint: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    unit: Literal["speaker", "session"] = "speaker"


_RANDOM = ("speaker", "session", "dialogue", "script", "sentence", "text", "identical-audio", "audio-twin")
"""What random divisions over utterances share."""

_LEXICAL = ("text", "sentence", "script")

_SESSION = "leave one session out, validation on the next session"
_SPEAKER = (
    "leave one speaker out, the partner of the session in no part, validation on both speakers of the next "
    "session"
)


def _iemocap() -> list[Protocol]:
    ours = []
    for labels in ("iemocap4", "iemocap7"):
        ours += [
            Protocol(
                name=f"{labels}-session",
                description=_SESSION,
                label_set=labels,
                corpora=("iemocap",),
                scheme="leave-one-session-out",
                validation="session",
                unit="session",
            ),
            Protocol(
                name=f"{labels}-speaker",
                description=_SPEAKER,
                label_set=labels,
                corpora=("iemocap",),
                scheme="leave-one-speaker-out",
                validation="session",
                disjoint=("session",),
                unit="session",
            ),
        ]
    return ours


def _acted() -> list[Protocol]:
    ours = []
    few = {"savee": 1, "casia": 1, "emovo": 2, "emodb": 2, "ravdess": 2}
    sets = {"ravdess": "ravdess8", "emodb": "emodb7", "savee": "savee7", "casia": "casia6", "emovo": "emovo7"}
    for corpus, labels in sets.items():
        # Two of four speakers for validation would leave one to train on.
        others = "other speakers" if few[corpus] > 1 else "one other speaker"
        ours.append(
            Protocol(
                name=f"{corpus}-speaker",
                description=f"leave one speaker out, validation on {others} of the training part",
                label_set=labels,
                corpora=(corpus,),
                scheme="leave-one-speaker-out",
                validation_speakers=few[corpus],
            )
        )
    return ours


def _meld() -> list[Protocol]:
    return [
        Protocol(
            name="meld-official",
            description="the corpus's own split; the same speakers and episodes in training and test",
            label_set="meld7",
            corpora=("meld",),
            scheme="official",
            validation="part",
            leaks=("speaker", "session", "text", "identical-audio", "audio-twin"),
        ),
        Protocol(
            name="meld-speaker",
            description="three parts with two of the six leading speakers each and a share of the others, validation "
            "on the next part; scenes and episodes are shared, because the speakers talk to each other",
            label_set="meld7",
            corpora=("meld",),
            scheme="balanced-speaker-parts",
            n_folds=3,
            validation="part",
            leaks=("dialogue", "session", "text", "identical-audio", "audio-twin"),
        ),
    ]


def _published() -> list[Protocol]:
    timnet = {  # random_state of the original's KFold(10, shuffle=True), one per corpus (public code)
        "casia": ("casia6", 32),
        "emodb": ("emodb7", 46),
        "emovo": ("emovo7", 1),
        "iemocap": ("iemocap4", 16),
        "ravdess": ("ravdess8", 46),
        "savee": ("savee7", 44),
    }
    theirs = [
        Protocol(
            name=f"timnet-{corpus}-published",
            description="random 10-fold over utterances as in the public code, the same speakers in training and "
            "test, no validation part",
            label_set=labels,
            corpora=(corpus,),
            scheme="random-kfold",
            n_folds=10,
            seed=seed,
            validation="none",
            selection="last",
            leaks=_RANDOM,
            unit="session" if corpus == "iemocap" else "speaker",
        )
        for corpus, (labels, seed) in timnet.items()
    ]
    theirs += [
        Protocol(
            name="amh-published",
            description="the original's five random folds over utterances (seeds 337 and 3372), dev part drawn from "
            "the held-out fold; the original's vocabulary, which saw every transcript, is fitted on the training part",
            label_set="iemocap7",
            scheme="amh-random",
            n_folds=5,
            validation="part",
            leaks=_RANDOM,
            corpora=("iemocap",),
            unit="session",
        ),
        Protocol(
            name="avdal-published",
            description="the original's five random draws of a fifth of the utterances (seeds 6990, 0, 4259, 1156, "
            "6364), the best epoch chosen on the test part; that the original's video stream showed nearly every test "
            "utterance, label included, to training is not repeated",
            label_set="iemocap4",
            scheme="avdal-draws",
            n_folds=5,
            validation="test",
            leaks=(*_RANDOM, "selection-on-test"),
            corpora=("iemocap",),
            unit="session",
        ),
        Protocol(
            name="camser-session-published",
            description="leave one session out; the test session also stops training and selects the epoch",
            label_set="iemocap4",
            scheme="leave-one-session-out",
            validation="test",
            leaks=("selection-on-test", "script", "text"),
            corpora=("iemocap",),
            unit="session",
        ),
        Protocol(
            name="camser-speaker-published",
            description="leave one speaker out with the partner of the session in training; the test speaker also "
            "stops training and selects the epoch",
            label_set="iemocap4",
            scheme="leave-one-speaker-out",
            validation="test",
            leaks=("selection-on-test", "session", "dialogue", "script", "text"),
            corpora=("iemocap",),
            unit="session",
        ),
        Protocol(
            name="amrwc-published",
            description="leave one speaker out with the partner of the session in training, nine training speakers; "
            "the paper mentions no validation part, so the last epoch is kept (our reading)",
            label_set="iemocap4-no-excited",
            scheme="leave-one-speaker-out",
            validation="none",
            selection="last",
            leaks=("session", "dialogue", "script", "text"),
            corpora=("iemocap",),
            unit="session",
        ),
    ]
    return theirs


def _general() -> list[Protocol]:
    return [
        Protocol(
            name="speaker",
            description="leave one speaker out, validation on other speakers of the training part",
            label_set="own",
            scheme="leave-one-speaker-out",
        ),
        Protocol(
            name="speaker-5fold",
            description="five parts of whole speakers, validation on other speakers of the training part",
            label_set="own",
            scheme="speaker-kfold",
            n_folds=5,
        ),
        Protocol(
            name="session",
            description=_SESSION,
            label_set="own",
            scheme="leave-one-session-out",
            validation="session",
            unit="session",
        ),
        Protocol(
            name="official",
            description="the corpus's own split",
            label_set="own",
            scheme="official",
            validation="part",
        ),
    ]


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (*_iemocap(), *_acted(), *_meld(), *_published(), *_general())
}
"""Registered protocols; the last four suit any corpus that has the columns they need."""


def _without_excited(protocol: Protocol) -> Protocol:
    labels = LABEL_SETS.get(protocol.label_set)
    if labels is None or "excited" not in labels.merged:
        raise UserError(f"{protocol.name} does not count excited as happy: -no-excited changes nothing")
    return replace(protocol, label_set="iemocap4-no-excited")


def _only(scenario: Literal["improvised", "scripted"]) -> Callable[[Protocol], Protocol]:
    def narrow(protocol: Protocol) -> Protocol:
        if protocol.scenario is not None:
            raise UserError(f"{protocol.name} is {protocol.scenario} only: it cannot be {scenario} only too")
        return replace(protocol, scenario=scenario)

    return narrow


ENDINGS: Mapping[str, tuple[str, Callable[[Protocol], Protocol]]] = {
    "improvised": ("improvised utterances only", _only("improvised")),
    "scripted": ("scripted utterances only", _only("scripted")),
    "no-excited": ("excited left out instead of counted as happy", _without_excited),
    "lexically-disjoint": (
        "training utterances that share a script, a sentence or a transcript with another part dropped",
        lambda protocol: replace(
            protocol,
            disjoint=(*protocol.disjoint, *_LEXICAL),
            leaks=tuple(leak for leak in protocol.leaks if leak not in _LEXICAL),
        ),
    ),
}
"""What may be added to the name of a protocol: ending to its meaning and its effect."""


def get_protocol(name: str) -> Protocol:
    """Look a protocol up by its name, endings included.

    >>> get_protocol("iemocap4-session-improvised").scenario
    'improvised'
    >>> get_protocol("iemocap-to-meld").label_set
    'common4'

    Raises:
        UserError: there is no such protocol.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    for ending, (meaning, change) in ENDINGS.items():
        if name.endswith(f"-{ending}"):
            narrowed = change(get_protocol(name.removesuffix(f"-{ending}")))
            return replace(narrowed, name=name, description=f"{narrowed.description}; {meaning}")
    source, _, target = name.partition("-to-")
    if source and target and source != target:
        return _between(name, source, target)
    raise UserError(
        f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}, and CORPUS-to-CORPUS, each with the endings "
        f"{', '.join(f'-{ending}' for ending in ENDINGS)}"
    )


def require_corpus(protocol: Protocol, corpora: Iterable[str]) -> None:
    """Refuse corpora that a protocol is not made for.

    Raises:
        UserError: with those that it is made for.
    """
    given = sorted(set(corpora))
    if protocol.corpora and not set(given) <= set(protocol.corpora):
        raise UserError(
            f"protocol {protocol.name} divides {' and '.join(protocol.corpora)}, not {', '.join(given)}; others are "
            "listed by: python -m ser_models.protocols list"
        )


def _between(name: str, source: str, target: str) -> Protocol:
    return Protocol(
        name=name,
        description=f"train on {source}, its last session or two of its speakers for validation, test on {target} (its "
        "test split where it has one); nothing of the target selects a model",
        label_set="common4",
        corpora=(source, target),
        scheme="cross-corpus",
        validation="part",
        unit="speaker",
    )
