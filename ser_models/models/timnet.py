"""TIM-Net: temporal modelling matters (Ye, Wen, Wei, Xu, Liu, Shan; ICASSP 2023).

Input: MFCC [batch, time, 39]. Output: logits [batch, classes]; with ``objective="dimensions"``, which is ours and not
the paper's, valence, arousal and dominance [batch, 3] on the corpus's scale.

Two streams, the sequence and its time reversal, pass through n temporal-aware blocks each; block j has dilation
2^(j−1). After each level both streams are added and averaged over time to gⱼ; a weighted sum of all gⱼ is
classified. The receptive field is 2^(n+1) − 1 frames.

The paper's text and its public code disagree in places. Here the code is followed: gⱼ pools the *outputs* of
block j (the formula g_j = G(F_j + B_j) would include the input), MFCCs come from librosa's defaults (the text
says 50 ms Hamming windows), and each stream has a 1×1 convolution of its own.
Keras details carried over: BatchNorm eps 1e-3 and momentum 0.99 (0.01 here), dropout of whole channels, level
weights uniform in ±0.05, Glorot-uniform kernels, zero biases.

What the original lacks and we add: padding is left out of all statistics, so that a ragged batch scores each
utterance as if it were alone.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_models.errors import UserError
from ser_models.models.batch import Batch, ragged
from ser_models.models.concordance import TargetScale, concordance_loss
from ser_models.models.layers import MaskedBatchNorm, reverse_time
from ser_models.models.system import Net, Preset, Step, System, clean_protocol, cross_entropy_sum


class TemporalAwareBlock(nn.Module):
    """Two causal dilated convolutions whose sigmoid gates the block's own input (paper, section 2.2).

    Args:
        channels: of input and output.
        kernel: taps of each convolution.
        dilation: frames between taps.
        dropout: probability that a whole channel is dropped.
        gated: multiply the input by the sigmoid, as TIM-Net; false adds it, as a plain TCN block.
    """

    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float, gated: bool) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.dilation = dilation
        self.dropout = dropout
        self.gated = gated
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation) for _ in range(2)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(channels, eps=1e-3, momentum=0.01) for _ in range(2))

    def forward(self, padded: Tensor, lengths: Tensor, mask: Tensor, pad: int) -> tuple[Tensor, Tensor]:
        """Compute the block on a sequence that is padded in front, and pad the result for the next block.

        Args:
            padded: [batch, reach + time, channels].
            lengths: [batch] valid frames.
            mask: [batch, time] the same as a mask.
            pad: zero frames to put in front of the result.

        Returns:
            [batch, pad + time, channels], and its sum over valid frames [batch, channels].
        """
        if self.training and self.gated and padded.device.type == "cpu":
            return self._forward_fused(padded, lengths, pad)
        values = padded[:, self.reach :].transpose(1, 2)
        hidden = padded.transpose(1, 2)
        for convolution, norm in self._layers():
            # The second convolution needs its own padding; the first one finds it in its input.
            missing = self.reach + values.shape[2] - hidden.shape[2]
            hidden = functional.relu(norm(convolution(functional.pad(hidden, (missing, 0))), mask))
            hidden = functional.dropout1d(hidden, self.dropout, self.training)
        result = values * torch.sigmoid(hidden) if self.gated else functional.relu(values + hidden)
        result = result * mask[:, None]
        return functional.pad(result, (pad, 0)).transpose(1, 2), result.sum(2)

    def _layers(self) -> list[tuple[nn.Conv1d, MaskedBatchNorm]]:
        return cast(
            list[tuple[nn.Conv1d, MaskedBatchNorm]], list(zip(self.convolutions, self.norms, strict=True))
        )

    def _forward_fused(self, padded: Tensor, lengths: Tensor, pad: int) -> tuple[Tensor, Tensor]:
        from ser_models.models import fused

        hidden = padded
        for pad_next, (convolution, norm) in zip((self.reach, 0), self._layers(), strict=True):
            assert convolution.bias is not None
            values = fused.convolve(hidden, convolution.weight, convolution.bias, self.dilation)
            keep = values.new_ones(len(values), values.shape[2])
            hidden, mean, variance = fused.normalise_relu_dropout(
                values,
                norm.weight,
                norm.bias,
                lengths,
                functional.dropout(keep, self.dropout),
                norm.eps,
                pad_next,
            )
            norm.track(mean, variance)
        return fused.gate(hidden, padded, lengths, pad)


class TIMNet(Net):
    """The network; defaults give the paper's (104,496 trainable parameters with 7 classes).

    Args:
        num_classes: number of classes, or of dimensions.
        features: coefficients per frame.
        blocks: n, the dilation depth; the paper uses 8, and 10 for IEMOCAP.
        kernel: taps of each convolution.
        filters: channels inside.
        dropout: probability that a whole channel is dropped.
        backward: use the time-reversed stream too (ablation "w/o BD" when false).
        multi_scale: fuse all levels; false classifies the last one only (ablation "w/o MS").
        dynamic_fusion: learn the levels' weights; false averages them (ablation "w/o DF").
        gated: temporal-aware blocks; false gives plain TCN blocks. The paper's ablation "TCN" is read as false
            for all four switches (what it changed is not stated: our choice).
        label_smoothing: share of the training target spread over all classes; of emotion only.
        learning_rate: of Adam.
        weight_decay: of Adam; the paper has none.
        objective: ``emotion`` classifies, ``dimensions`` gives numbers and learns their concordance.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        features: int = 39,
        blocks: int = 8,
        kernel: int = 2,
        filters: int = 39,
        dropout: float = 0.1,
        backward: bool = True,
        multi_scale: bool = True,
        dynamic_fusion: bool = True,
        gated: bool = True,
        label_smoothing: float = 0.1,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        objective: Literal["emotion", "dimensions"] = "emotion",
    ) -> None:
        super().__init__()
        counts = {"num_classes": num_classes, "blocks": blocks, "filters": filters, "kernel": kernel}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} = {count}: must be at least 1")
        for name, share in {"dropout": dropout, "label_smoothing": label_smoothing}.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} = {share}: must be at least 0 and below 1")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate = {learning_rate}: must be a positive number")
        if weight_decay < 0:
            raise ValueError(f"weight_decay = {weight_decay}: must be 0 or more")
        if objective not in TIMNetSystem.objectives:
            raise ValueError(
                f"objective = {objective!r}: must be one of {', '.join(TIMNetSystem.objectives)}"
            )
        self.multi_scale = multi_scale
        self.dynamic_fusion = dynamic_fusion
        self.label_smoothing = label_smoothing
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        directions = 2 if backward else 1
        self.entries = nn.ModuleList(nn.Conv1d(features, filters, 1) for _ in range(directions))
        self.streams = nn.ModuleList(
            nn.ModuleList(
                TemporalAwareBlock(filters, kernel, 2**level, dropout, gated) for level in range(blocks)
            )
            for _ in range(directions)
        )
        if multi_scale and dynamic_fusion:
            self.level_weights = nn.Parameter(torch.empty(blocks).uniform_(-0.05, 0.05))
        self.classifier = nn.Linear(filters, num_classes)
        self.scale = TargetScale(num_classes) if objective == "dimensions" else None
        self.apply(_initialise_as_keras)

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Read the only input of the batch, a `Ragged` of [batch, time, features]."""
        sequence = ragged(batch.inputs, next(iter(batch.inputs)))
        lengths, mask = sequence.lengths, sequence.mask()
        streams = [sequence.values]
        if len(self.entries) == 2:
            # The streams are added frame by frame without turning the second one back, as in the original:
            # only their means over time are used.
            streams.append(reverse_time(sequence.values, lengths))
        stacks = [cast(list[TemporalAwareBlock], list(cast(nn.ModuleList, stack))) for stack in self.streams]
        entries = cast(list[nn.Conv1d], list(self.entries))
        reaches = [block.reach for block in stacks[0]] + [0]
        hidden = [
            functional.pad(functional.linear(stream, entry.weight[..., 0], entry.bias), (0, 0, reaches[0], 0))
            for entry, stream in zip(entries, streams, strict=True)
        ]
        levels = []
        for level, blocks in enumerate(zip(*stacks, strict=True)):
            results = [
                block(stream, lengths, mask, reaches[level + 1])
                for block, stream in zip(blocks, hidden, strict=True)
            ]
            hidden = [result for result, _ in results]
            levels.append(torch.stack([sums for _, sums in results]).sum(0))
        means = torch.stack(levels, 2) / lengths.clamp(min=1)[:, None, None]
        scores = self.classifier(self._fuse(means))
        return {"logits": scores if self.scale is None else self.scale(scores)}

    def _fuse(self, levels: Tensor) -> Tensor:
        """[batch, filters, levels] to [batch, filters]."""
        if not self.multi_scale:
            return levels[..., -1]
        return levels @ self.level_weights if self.dynamic_fusion else levels.mean(2)

    def loss(self, outputs: dict[str, Tensor], batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Cross entropy with smoothed targets; for dimensions the concordance of the joined batch."""
        if self.scale is not None:
            return {"dimensions": concordance_loss(outputs["logits"], batch.target, batch.weight)}
        smoothing = self.label_smoothing if self.training else 0.0
        return {"emotion": cross_entropy_sum(outputs["logits"], batch.target, batch.weight, smoothing)}

    def start(self, target: Tensor) -> None:
        """Take the scale of dimensions from the training part."""
        if self.scale is not None:
            self.scale.fit(target)


def _initialise_as_keras(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TIMNetSystem(System):
    """TIM-Net's declaration: signal length and dilation depth per corpus."""

    name = "timnet"
    title = "TIM-Net"
    source = "Ye et al., ICASSP 2023"
    net = TIMNet
    objectives = ("emotion", "dimensions")

    samples = {
        "casia": 88_000,
        "emodb": 96_000,
        "emovo": 96_000,
        "iemocap": 310_000,
        "ravdess": 110_000,
        "savee": 130_000,
    }
    """Signal length in samples at 22.05 kHz to which each corpus is padded or cropped (public code)."""

    def preset(self, name: str, corpus: str) -> Preset:
        """The original's random folds at fixed length, or speaker-independent folds on whole utterances."""
        model = {"blocks": 10 if corpus == "iemocap" else 8}
        if name == "faithful":
            if corpus not in self.samples:
                raise UserError(
                    f"{self.title} was not published on {corpus!r}, so there is nothing to be faithful to; published "
                    f"on: {', '.join(self.samples)}. Use preset clean"
                )
            return Preset(
                protocol=f"timnet-{corpus}-published",
                views=(f"mfcc[samples={self.samples[corpus]}]",),
                normalise="none",
                epochs=500,
                batch_size=64,
                model=model,
            )
        if name == "clean":
            return Preset(
                protocol=clean_protocol(corpus),
                views=("mfcc",),
                normalise="global",
                epochs=100,
                patience=20,
                batch_size=64,
                model=model,
                inherited=("blocks", "filters", "kernel", "dropout", "label_smoothing", "learning_rate"),
            )
        raise UserError(f"system {self.name!r} has no preset {name!r}; it has: faithful, clean")

    def steps(self, net: TIMNet) -> list[Step]:
        """Adam with β = (0.93, 0.98), as in the public code."""
        return [
            Step(
                name="main",
                parameters=list(net.parameters()),
                optimiser=lambda parameters: torch.optim.Adam(
                    parameters,
                    lr=net.learning_rate,
                    betas=(0.93, 0.98),
                    eps=1e-8,
                    weight_decay=net.weight_decay,
                ),
            )
        ]
