"""The one form in which examples reach a network.

A sequence of any modality is `Ragged`: values padded at their ends, with the true lengths beside them. A
`Batch` carries every input that a system reads, a soft target, and a weight that is 0 for a padding example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths in one tensor.

    Attributes:
        values: [batch, time, …]; positions at or past a row's length hold 0.
        lengths: [batch] int64, valid frames per row; 0 is allowed (an absent modality or turn).
    """

    values: Tensor
    lengths: Tensor

    def mask(self) -> Tensor:
        """[batch, time] bool, true where a frame is valid."""
        positions = torch.arange(self.values.shape[1], device=self.values.device)
        return positions[None, :] < self.lengths[:, None]

    def map(self, function: Callable[[Tensor], Tensor]) -> Ragged:
        """The same sequences with ``function`` applied to the values, padding set back to 0.

        Args:
            function: keeps the batch and time axes.
        """
        values = function(self.values)
        mask = self.mask().reshape(*values.shape[:2], *[1] * (values.dim() - 2))
        return Ragged(values.masked_fill(~mask, 0), self.lengths)

    def to(self, device: torch.device | str) -> Ragged:
        """Move to a device."""
        return Ragged(self.values.to(device, non_blocking=True), self.lengths.to(device, non_blocking=True))

    def __len__(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True)
class Batch:
    """Examples of one step.

    Attributes:
        inputs: per view (or per turn, for dialogue systems) a `Ragged` or a plain tensor.
        target: [batch, classes] float; soft, one-hot being a case of it.
        weight: [batch] float; 0 for padding examples, which then have no influence on loss or statistics.
        utterance: [batch] int64, row of the utterance in the manifest; segments of one utterance share it.
        domain: [batch] int64; 0 where a system has one domain.
        extra: what only some systems read (gender, dimensions), each [batch, …].
    """

    inputs: dict[str, Ragged | Tensor]
    target: Tensor
    weight: Tensor
    utterance: Tensor
    domain: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.target.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to a device."""
        return Batch(
            inputs={name: value.to(device) for name, value in self.inputs.items()},
            target=self.target.to(device, non_blocking=True),
            weight=self.weight.to(device, non_blocking=True),
            utterance=self.utterance.to(device, non_blocking=True),
            domain=self.domain.to(device, non_blocking=True),
            extra={name: value.to(device, non_blocking=True) for name, value in self.extra.items()},
        )


def ragged(inputs: dict[str, Ragged | Tensor], name: str) -> Ragged:
    """The input ``name``, which must be `Ragged`.

    Raises:
        TypeError: it is a plain tensor.
        KeyError: there is no such input.
    """
    value = inputs[name]
    if not isinstance(value, Ragged):
        raise TypeError(f"input {name!r} must be Ragged, got a plain tensor of shape {tuple(value.shape)}")
    return value
