"""MDSCM: multi-attention depthwise separable convolutions (Wei, Hu, Yang, Luu, Dong; Interspeech 2022).

Input: logarithmic mel energies [batch, time, 40], 25 ms each 10 ms. Output: logits [batch, classes].

An utterance becomes five segments of 224 frames. Each passes two convolutions, two residual blocks of separable
convolutions, attention over positions and then over channels, and a Transformer of two layers without positions over
the 14 steps that are left; their mean is classified, and the logits of the segments are averaged.

The public code is followed, and three of its quirks can be switched on; ``faithful`` has them, ``clean`` has not:

- ``double_softmax``: the loss takes the softmax of what is a softmax already. Where the classes are equally probable,
  as at the start, that divides the gradient by their number: for four classes the paper's learning rate of 0.08 moves
  the network as 0.02 does without the quirk. With 0.08 and without it training diverges, so 0.02 is the default (our
  choice), and ``faithful`` has 0.08.
- ``inplace_relu_shortcut``: the ReLU at the head of the second block works in place, so that the shortcut, which is
  computed later, reads rectified values too.
- ``average_zero_segments``: segments that would run past the end stay all zero and are averaged like the others (of
  three seconds only two of five segments hold speech). Otherwise they are not computed at all.

Statistics of the normalisations come from the segments of all workers together. The running variance is the biased
one, where torch keeps the unbiased one: over a batch's thousands of positions that is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ser_models.errors import UserError
from ser_models.models.batch import Batch, Ragged, ragged
from ser_models.models.layers import MaskedBatchNorm
from ser_models.models.system import Net, Preset, Step, System, clean_protocol, cross_entropy_sum

SEGMENTS = 5
"""Segments of an utterance."""
FRAMES = 224
"""Frames of a segment."""


def cut_segments(sequence: Ragged) -> tuple[Tensor, Tensor]:
    """Cut every utterance into five segments of 224 frames, as AVDAL's public code does.

    An utterance of T < 229 frames first gets 112 frames of zeros on both sides, T growing by 224. Segment i begins at
    frame i · ⌊T / 5⌋. One that would not end before the utterance's last frame holds zeros only; so an utterance
    of 3 s has two real segments, and five only exist from 1121 frames on.

    Args:
        sequence: [batch, time, features].

    Returns:
        Segments [batch, 5, 224, features], and which of them are real, [batch, 5] bool; none of a length of 0.
    """
    lengths = sequence.lengths
    front = torch.where(lengths < FRAMES + SEGMENTS, FRAMES // 2, 0)
    total = lengths + 2 * front
    starts = (
        torch.div(total, SEGMENTS, rounding_mode="floor")[:, None]
        * torch.arange(SEGMENTS, device=lengths.device)[None]
    )
    real = starts + FRAMES < total[:, None]
    frame = (starts - front[:, None])[..., None] + torch.arange(FRAMES, device=lengths.device)
    there = real[..., None] & (frame >= 0) & (frame < lengths[:, None, None])
    rows = torch.arange(len(lengths), device=lengths.device)[:, None, None]
    cut = sequence.values[rows, frame.clamp(0, sequence.values.shape[1] - 1)]
    return cut.masked_fill(~there[..., None], 0), real


def spoken_segments(sequence: Ragged, *, with_zeros: bool) -> tuple[Tensor, Tensor]:
    """The segments that take part, of all utterances in one row.

    Args:
        sequence: [batch, time, features]; a length of 0, a padding example, has no segment.
        with_zeros: all-zero segments take part too.

    Returns:
        Segments [segments, 1, 224, features], and the example that each belongs to, [segments].
    """
    cut, real = cut_segments(sequence)
    taken = (sequence.lengths > 0)[:, None].expand_as(real) if with_zeros else real
    return cut[taken][:, None], taken.nonzero()[:, 0]


def mean_by_example(values: Tensor, owner: Tensor, examples: int) -> Tensor:
    """Average [segments, width] over the segments of each example: [examples, width], 0 where there are none."""
    sums = values.new_zeros(examples, values.shape[1]).index_add(0, owner, values)
    return sums / torch.bincount(owner, minlength=examples).clamp(min=1)[:, None]


class MapNorm(MaskedBatchNorm):
    """Batch normalisation of feature maps, gathered over workers."""

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise [batch, channels, height, width].

        Args:
            values: [batch, channels, height, width].
            mask: [batch, height · width] bool, true where valid; None when every position is.
        """
        return super().forward(values.flatten(2), mask).view_as(values)


def separable_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution of each channel alone, then a 1×1 convolution over all of them."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
    )


class SeparableBlock(nn.Module):
    """Two separable convolutions and a pooling that halves the map, beside a shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        rectify: ReLU before the first convolution.
        rectify_shortcut: let the shortcut read rectified values too.
    """

    def __init__(self, inputs: int, outputs: int, *, rectify: bool, rectify_shortcut: bool) -> None:
        super().__init__()
        self.rectify = rectify
        self.rectify_shortcut = rectify_shortcut
        self.residual = nn.Sequential(
            separable_convolution(inputs, outputs),
            MapNorm(outputs),
            nn.ReLU(),
            separable_convolution(outputs, outputs),
            MapNorm(outputs),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2), MapNorm(outputs))

    def forward(self, values: Tensor) -> Tensor:
        """[segments, inputs, height, width] to [segments, outputs, ⌈height / 2⌉, ⌈width / 2⌉]."""
        residual: Tensor = self.residual(values.relu() if self.rectify else values)
        shortcut: Tensor = self.shortcut(values.relu() if self.rectify_shortcut else values)
        return residual + shortcut


class SpatialAttention(nn.Module):
    """Weight every position by a 3×3 convolution over the maximum and the mean of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """[segments, channels, height, width] to the same shape."""
        pooled = torch.cat([values.amax(1, keepdim=True), values.mean(1, keepdim=True)], 1)
        return values * torch.sigmoid(self.convolution(pooled))


class ChannelAttention(nn.Module):
    """Weight every channel by one small network applied to its mean and to its maximum.

    Args:
        channels: of the input.
        reduction: how much narrower the network's inside is.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels)
        )

    def forward(self, values: Tensor) -> Tensor:
        """[segments, channels, height, width] to the same shape."""
        weights = self.bottleneck(values.mean((2, 3))) + self.bottleneck(values.amax((2, 3)))
        return values * torch.sigmoid(weights)[..., None, None]


class MDSCMTrunk(nn.Module):
    """From a segment to its vector.

    Args:
        features: values per frame.
        inplace_relu_shortcut: see the module.
        dropout: after each block.
        transformer_dropout: inside the Transformer.

    Attributes:
        width: length of the vector: 256 channels times what halving four times leaves of the features.
    """

    channels = 256

    def __init__(
        self, features: int, *, inplace_relu_shortcut: bool, dropout: float, transformer_dropout: float
    ) -> None:
        super().__init__()
        self.width = self.channels * -(-features // 16)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False),
            MapNorm(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
            MapNorm(64),
            nn.ReLU(),
            SeparableBlock(64, 128, rectify=False, rectify_shortcut=False),
            nn.Dropout(dropout),
            SeparableBlock(128, self.channels, rectify=True, rectify_shortcut=inplace_relu_shortcut),
            nn.Dropout(dropout),
            SpatialAttention(),
            ChannelAttention(self.channels),
        )
        self.transformer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                self.width,
                nhead=4,
                dim_feedforward=512,
                dropout=transformer_dropout,
                batch_first=True,
            ),
            num_layers=2,
            enable_nested_tensor=False,
        )

    def forward(self, segments: Tensor) -> Tensor:
        """[segments, 1, 224, features] to [segments, width]."""
        maps = self.convolutions(segments)  # [segments, 256, 14, ⌈features / 16⌉]
        encoded: Tensor = self.transformer(maps.transpose(1, 2).flatten(2))
        return encoded.mean(1)


class MDSCM(Net):
    """The network; defaults give the paper's (6,508,487 parameters with 4 classes) without the code's quirks.

    Args:
        num_classes: number of classes.
        features: mel bands per frame.
        double_softmax, inplace_relu_shortcut, average_zero_segments: quirks of the public code, see the module.
        dropout: after each block.
        transformer_dropout: inside the Transformer.
        learning_rate: of stochastic gradient descent with momentum; the paper's 0.08 belongs to ``double_softmax``.
        decay_epochs: epochs after which the learning rate is halved.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        features: int = 40,
        double_softmax: bool = False,
        inplace_relu_shortcut: bool = False,
        average_zero_segments: bool = False,
        dropout: float = 0.5,
        transformer_dropout: float = 0.4,
        learning_rate: float = 0.02,
        decay_epochs: Sequence[int] = (10, 20, 30),
    ) -> None:
        super().__init__()
        check_settings(num_classes, features, learning_rate, decay_epochs)
        self.double_softmax = double_softmax
        self.average_zero_segments = average_zero_segments
        self.learning_rate = learning_rate
        self.decay_epochs = tuple(decay_epochs)
        self.trunk = MDSCMTrunk(
            features,
            inplace_relu_shortcut=inplace_relu_shortcut,
            dropout=dropout,
            transformer_dropout=transformer_dropout,
        )
        self.classifier = nn.Linear(self.trunk.width, num_classes)

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Read the only input of the batch, a `Ragged` of [batch, time, features]."""
        sequence = ragged(batch.inputs, next(iter(batch.inputs)))
        segments, owner = spoken_segments(sequence, with_zeros=self.average_zero_segments)
        return {"logits": mean_by_example(self.classifier(self.trunk(segments)), owner, len(sequence))}

    def loss(self, outputs: dict[str, Tensor], batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Cross entropy; with ``double_softmax`` of the probabilities in place of the logits."""
        logits = outputs["logits"].softmax(1) if self.double_softmax else outputs["logits"]
        return {"emotion": cross_entropy_sum(logits, batch.target, batch.weight)}


def check_settings(
    num_classes: int, features: int, learning_rate: float, decay_epochs: Sequence[int]
) -> None:
    """Refuse impossible settings.

    Raises:
        ValueError: one of them is impossible.
    """
    for name, count in {"num_classes": num_classes, "features": features}.items():
        if count < 1:
            raise ValueError(f"{name} = {count}: must be at least 1")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate = {learning_rate}: must be a positive number")
    if any(epoch < 1 for epoch in decay_epochs):
        raise ValueError(f"decay_epochs = {list(decay_epochs)}: epochs are counted from 1")


def descent(net: nn.Module, learning_rate: float, decay_epochs: Sequence[int]) -> Step:
    """Stochastic gradient descent with momentum 0.9 and weight decay 1e-4; the rate is halved after some epochs."""
    return Step(
        name="main",
        parameters=list(net.parameters()),
        optimiser=lambda parameters: torch.optim.SGD(
            parameters, lr=learning_rate, momentum=0.9, weight_decay=1e-4
        ),
        scheduler=lambda optimiser: torch.optim.lr_scheduler.MultiStepLR(
            optimiser, list(decay_epochs), gamma=0.5
        ),
    )


class MDSCMSystem(System):
    """MDSCM's declaration.

    The original halves its learning rate at 80, 160 and 240 steps of a schedule that it advances after each of the
    eight altered copies of the data, and so after 10, 20 and 30 epochs; an epoch is the data and its seven copies,
    which preprocessing makes (``--copies 7 --alter vtlp[rule=nlpaug]``).
    """

    name = "mdscm"
    title = "MDSCM"
    source = "Wei et al., Interspeech 2022"
    net = MDSCM

    def preset(self, name: str, corpus: str) -> Preset:
        """The original's random draws of utterances with its code's quirks, or strangers in the test part."""
        if name == "faithful":
            require_published(self.title, corpus)
            return Preset(
                protocol="avdal-published",
                views=("log_filterbank",),
                normalise="none",
                epochs=500,
                batch_size=32,
                model={**QUIRKS, "learning_rate": 0.08},
            )
        if name == "clean":
            return Preset(
                protocol=clean_protocol(corpus),
                views=("log_filterbank",),
                normalise="global",
                epochs=100,
                patience=20,
                batch_size=32,
                inherited=("dropout", "transformer_dropout", "decay_epochs", "batch_size"),
            )
        raise UserError(f"system {self.name!r} has no preset {name!r}; it has: faithful, clean")

    def steps(self, net: Any) -> list[Step]:
        """Stochastic gradient descent, as in the public code."""
        return [descent(net, net.learning_rate, net.decay_epochs)]


QUIRKS = {"double_softmax": True, "inplace_relu_shortcut": True, "average_zero_segments": True}
"""What the public code does, and ``faithful`` with it."""


def require_published(title: str, corpus: str) -> None:
    """Refuse a faithful run on a corpus that the paper does not report.

    Raises:
        UserError: it is another corpus than IEMOCAP.
    """
    if corpus != "iemocap":
        raise UserError(
            f"{title} was not published on {corpus!r}, so there is nothing to be faithful to; published on: iemocap. "
            "Use preset clean"
        )
