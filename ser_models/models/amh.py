"""AMH: attentive modality hopping (Yoon, Dey, Lee, Jung; arXiv:1912.00846, 2020), and its baselines MDRE and MHA.

Inputs, in the order of ``modalities``: audio, MFCC with Δ and ΔΔ [batch, time, 120]; text, numbers of words
[batch, tokens] int64; video, vectors of pictures [batch, pictures, 2048]. Output: logits [batch, classes].

A GRU reads each modality; its last state is the modality's first vector. Each hop asks one modality with the other
two: with q = [v₁; v₂] W + b and the states h_i of the asked one (equations 2 to 4)::

    a = softmax over i of q · h_i,    its vector becomes Σ_i a_i h_i

Hop 1 asks the video with audio and text, hop 2 the audio, hop 3 the text, hop 4 the video again, and so on, always
over the GRU's own states. The three vectors together are classified.

MDRE asks nothing: it classifies the last states. MHA is the same hopping between two modalities, which begins by asking
the second one; between all three it is AMH. Both take pairs and triples through ``modalities``. How AMH's authors
configured these two baselines is not published: they read through AMH's encoders here, and MHA makes the two hops of
its own abstract (arXiv:1904.10788, whose encoders were BLSTMs).

Where the paper's text and its public code disagree, the code is followed: each hop has a rectangular W of its own, and
b is added to the query. Where the code is silent or cannot be followed:

- It validates every 0.3 epochs and stops after 15 validations without a better one; here validation comes after whole
  epochs, and 5 of them stop preset faithful. It selects by precision, here UAR selects.
- It loads GloVe vectors. Here all words begin like those that GloVe lacks, uniform in ±0.25, and the vocabulary is that
  of the training part.
- How its features were standardised is unknown: here all numbers are, by the training part.

A modality of length 0 contributes zeros. What the original lacks and we add: ``modality_dropout``, and text as vectors
[batch, tokens, features] instead of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_models.errors import UserError
from ser_models.models.batch import Batch, Ragged, ragged
from ser_models.models.recurrent import Cell, build_gru
from ser_models.models.system import Net, Preset, Step, System, clean_protocol


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What the original reads of a modality.

    Attributes:
        view: spec of its features.
        features: values per frame; None for words.
        longest: frames, words or pictures that are read; later ones are left out.
    """

    view: str
    features: int | None
    longest: int


MODALITIES: Mapping[str, Modality] = {
    "audio": Modality(
        view="mfcc[deltas=2,hop_length=160,n_fft=400,n_mels=40,n_mfcc=40,sample_rate=16000,window=hamming]",
        features=120,
        longest=750,
    ),
    "text": Modality(view="words", features=None, longest=128),
    # ResNet-101 needs weights that come with no package: they are downloaded, or the user names a file.
    "video": Modality(view="video_embedding[checkpoint=download]", features=2048, longest=25),
}
"""Modality to its published input."""


class ModalityEncoder(nn.Module):
    """A GRU over one modality, behind an embedding where the modality is words.

    Args:
        features: values per frame; None for words.
        vocabulary: how many numbers there are, padding (0) and unknown words (1) included; read for words only.
        embedding: values per word; read for words only.
        units: size of the GRU's state.
        longest: frames that are read.
        dropout: probability that an input value is dropped, in each frame anew.
        cell: of the GRU.
    """

    def __init__(
        self,
        features: int | None,
        *,
        vocabulary: int,
        embedding: int,
        units: int,
        longest: int,
        dropout: float,
        cell: Cell,
    ) -> None:
        super().__init__()
        self.longest = longest
        self.dropout = dropout
        self.embedding = None
        if features is None:
            self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
            nn.init.uniform_(self.embedding.weight[1:], -0.25, 0.25)
            nn.init.zeros_(self.embedding.weight[:1])
        self.gru = build_gru(cell, embedding if features is None else features, units)

    def forward(self, sequence: Ragged) -> Ragged:
        """The GRU's states [batch, time, units], of at most the first ``longest`` frames."""
        values = sequence.values[:, : self.longest]
        values = (
            values.to(next(self.gru.parameters()).dtype) if self.embedding is None else self.embedding(values)
        )
        states = self.gru(functional.dropout(values, self.dropout, self.training))
        return Ragged(states, sequence.lengths.clamp(max=self.longest))


def last_state(states: Ragged) -> Tensor:
    """[batch, units] the state at the last valid frame, zeros where there is none."""
    last = (states.lengths - 1).clamp(min=0)
    picked = states.values[torch.arange(len(states), device=last.device), last]
    return picked.masked_fill((states.lengths == 0)[:, None], 0)


def attend(query: Tensor, states: Ragged) -> Tensor:
    """Average the states by the softmax of their products with a query; zeros where there is no state.

    Args:
        query: [batch, units].
        states: [batch, time, units].

    Returns:
        [batch, units].
    """
    mask = states.mask()
    scores = (states.values @ query[..., None])[..., 0]
    # The lowest finite number: a row that is masked throughout stays free of NaN, and so do its gradients.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1) * mask
    return (weights[:, None] @ states.values)[:, 0]


class AMH(Net):
    """The network; defaults give the paper's, with torch's GRU (2,875,739 parameters with 7 classes).

    Args:
        num_classes: number of classes.
        features: per modality its values per frame, None for words; by default those of `MODALITIES`.
        vocabulary: how many numbers words have, padding and unknown words included.
        modalities: two or three of audio, text and video, joined by ``+``, in the order of the views. The last one is
            asked first.
        hops: how often a modality is asked; 0 classifies the last states.
        audio_units, text_units, video_units: size of each GRU's state.
        audio_dropout, text_dropout, video_dropout: probability that an input value is dropped.
        embedding: values per word.
        cell: ``torch``, or ``original`` for the paper's (1,584 parameters fewer), which is slower on a GPU.
        modality_dropout: probability that a training example loses a modality; one that would lose all keeps all.
        learning_rate: of Adam.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        features: Sequence[int | None] | None = None,
        vocabulary: int = 3747,
        modalities: str = "audio+text+video",
        hops: int = 7,
        audio_units: int = 200,
        text_units: int = 200,
        video_units: int = 128,
        audio_dropout: float = 0.3,
        text_dropout: float = 0.7,
        video_dropout: float = 0.3,
        embedding: int = 300,
        cell: Cell = "torch",
        modality_dropout: float = 0.0,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        self.modalities = _modalities(modalities)
        if features is None:
            features = [MODALITIES[name].features for name in self.modalities]
        self._check_features(features)
        units = {"audio": audio_units, "text": text_units, "video": video_units}
        dropout = {"audio": audio_dropout, "text": text_dropout, "video": video_dropout}
        counts = {"num_classes": num_classes, "vocabulary": vocabulary, "embedding": embedding}
        for name, count in (counts | {f"{name}_units": count for name, count in units.items()}).items():
            if count < 1:
                raise ValueError(f"{name} = {count}: must be at least 1")
        if hops < 0:
            raise ValueError(f"hops = {hops}: must be 0 or more")
        shares = {f"{name}_dropout": share for name, share in dropout.items()}
        for name, share in (shares | {"modality_dropout": modality_dropout}).items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} = {share}: must be at least 0 and below 1")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate = {learning_rate}: must be a positive number")
        self.modality_dropout = modality_dropout
        self.learning_rate = learning_rate
        self.encoders = nn.ModuleList(
            ModalityEncoder(
                size,
                vocabulary=vocabulary,
                embedding=embedding,
                units=units[name],
                longest=MODALITIES[name].longest,
                dropout=dropout[name],
                cell=cell,
            )
            for name, size in zip(self.modalities, features, strict=True)
        )
        sizes = [units[name] for name in self.modalities]
        # −1, 0, 1 for three modalities: the last one first.
        self.asked = [(hop - 1) % len(sizes) for hop in range(hops)]
        self.queries = nn.ModuleList(
            nn.Linear(sum(sizes) - sizes[asked], sizes[asked]) for asked in self.asked
        )
        self.classifier = nn.Linear(sum(sizes), num_classes)
        for layer in (*self.queries, self.classifier):
            assert isinstance(layer, nn.Linear)
            nn.init.uniform_(layer.weight, -0.25, 0.25)
            nn.init.zeros_(layer.bias)

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Read one `Ragged` input per modality, in the order of ``modalities``."""
        states = [
            encoder(ragged(batch.inputs, name))
            for encoder, name in zip(self.encoders, batch.inputs, strict=True)
        ]
        if self.training and self.modality_dropout:
            states = self._without_some(states)
        vectors = [last_state(each) for each in states]
        for asked, query in zip(self.asked, self.queries, strict=True):
            others = [vector for position, vector in enumerate(vectors) if position != asked]
            vectors[asked] = attend(query(torch.cat(others, 1)), states[asked])
        return {"logits": self.classifier(torch.cat(vectors, 1))}

    def _without_some(self, states: list[Ragged]) -> list[Ragged]:
        """The same with some modalities of some examples taken as absent."""
        kept = (
            torch.rand(len(states[0]), len(states), device=states[0].values.device) >= self.modality_dropout
        )
        kept |= ~kept.any(1, keepdim=True)
        return [
            Ragged(each.values, each.lengths * keep)
            for each, keep in zip(states, kept.unbind(1), strict=True)
        ]

    def _check_features(self, features: Sequence[int | None]) -> None:
        names = "+".join(self.modalities)
        if len(features) != len(self.modalities):
            raise ValueError(
                f"modalities = {names} read {len(self.modalities)} views, in this order, but features.views gives "
                f"{len(features)}: change one of them"
            )
        for name, size in zip(self.modalities, features, strict=True):
            if size is None and name != "text":
                raise ValueError(
                    f"modalities = {names}: only words have no values per frame, but the view of {name} has none; "
                    "put the views into this order"
                )


class MDRE(AMH):
    """Concatenated last states, without attention (Yoon et al., SLT 2018, as the baseline of AMH).

    Args:
        num_classes: number of classes.
        arguments: of `AMH`, except ``hops``.
    """

    def __init__(self, num_classes: int, **arguments: Any) -> None:
        if "hops" in arguments:
            raise ValueError("MDRE makes no hops: take mha or amh, or leave hops out")
        super().__init__(num_classes, hops=0, **arguments)


class MHA(AMH):
    """Multi-hop attention between two modalities (Yoon et al., ICASSP 2019, as the baseline of AMH).

    Args:
        num_classes: number of classes.
        modalities: in the order of the views; the last one is asked first.
        hops: how often a modality is asked.
        arguments: the others of `AMH`.
    """

    def __init__(
        self, num_classes: int, *, modalities: str = "audio+text", hops: int = 2, **arguments: Any
    ) -> None:
        super().__init__(num_classes, modalities=modalities, hops=hops, **arguments)


def _modalities(text: str) -> list[str]:
    names = text.split("+")
    if not set(names) <= set(MODALITIES) or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(
            f"modalities = {text!r}: must be two or three of {', '.join(MODALITIES)}, joined by +, as in audio+text"
        )
    return names


def vocabulary_size(fitted: Any) -> int:
    """How many numbers the words of a fitted vocabulary have, padding and the unknown word included."""
    return len(fitted.arrays["offsets"]) + 1


class AMHSystem(System):
    """AMH's declaration; its baselines' follow."""

    name = "amh"
    title = "AMH"
    source = "Yoon et al., arXiv:1912.00846, 2020"
    net: ClassVar[type[Net]] = AMH
    modalities: ClassVar[tuple[str, ...]] = ("audio", "text", "video")
    """Of the presets; others need ``model.modalities`` and ``features.views``."""

    def preset(self, name: str, corpus: str) -> Preset:
        """The original's random folds, or sessions apart without repeated texts.

        IEMOCAP's actors perform the same scripts in every session, so that words of scripted utterances leak between
        any two parts. Preset clean therefore trains and tests on improvised speech, and drops training utterances
        whose transcript occurs in another part. Corpora with prescribed sentences have no clean protocol for a system
        that reads words: the leak check says so.
        """
        views = tuple(MODALITIES[modality].view for modality in self.modalities)
        if name == "faithful":
            if corpus != "iemocap":
                raise UserError(
                    f"{self.title} was not published on {corpus!r}, so there is nothing to be faithful to; published "
                    "on: iemocap. Use preset clean"
                )
            return Preset(
                protocol="amh-published",
                views=views,
                normalise="global",
                epochs=212,  # 10,000 steps of 128 among 6,058 utterances
                patience=5,
                batch_size=128,
                model={"cell": "original"},
            )
        if name == "clean":
            return Preset(
                protocol=(
                    "iemocap7-session-improvised-lexically-disjoint"
                    if corpus == "iemocap"
                    else clean_protocol(corpus)
                ),
                views=views,
                normalise="global",
                epochs=100,
                patience=15,
                batch_size=128,
                inherited=("hops", "units", "dropout", "embedding", "learning_rate", "batch_size"),
            )
        raise UserError(f"system {self.name!r} has no preset {name!r}; it has: faithful, clean")

    def sizes(self, shapes: Mapping[str, tuple[int, ...]], fitted: Mapping[str, Any]) -> dict[str, Any]:
        """Values per frame of each view, and the size of the vocabulary that was fitted on the training part."""
        arguments: dict[str, Any] = {"features": [shape[0] if shape else None for shape in shapes.values()]}
        for view, shape in shapes.items():
            if not shape:
                # Before anything is fitted only padding and the unknown word are sure.
                arguments["vocabulary"] = vocabulary_size(fitted[view]) if view in fitted else 2
        return arguments

    def steps(self, net: AMH) -> list[Step]:
        """Adam, each tensor's gradient clipped to norm 1."""
        return [
            Step(
                name="main",
                parameters=list(net.parameters()),
                optimiser=lambda parameters: torch.optim.Adam(parameters, lr=net.learning_rate),
                clip="per_variable",
                clip_norm=1.0,
            )
        ]


class MDRESystem(AMHSystem):
    """MDRE under AMH's protocols and training, so that the rows can be compared."""

    name = "mdre"
    title = "MDRE"
    source = "Yoon et al., SLT 2018, as the baseline of AMH"
    net = MDRE


class MHASystem(AMHSystem):
    """MHA under AMH's protocols and training, of audio and text unless asked otherwise."""

    name = "mha"
    title = "MHA"
    source = "Yoon et al., ICASSP 2019, as the baseline of AMH"
    net = MHA
    modalities = ("audio", "text")
