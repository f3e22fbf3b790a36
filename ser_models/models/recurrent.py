"""Gated recurrent units over a batch of sequences, in the two forms that papers mean by the name.

Both compute, from the input x_t and the state h_{t−1}, beginning at h_0 = 0::

    r = σ(W_r x_t + U_r h_{t−1} + b_r)
    u = σ(W_u x_t + U_u h_{t−1} + b_u)
    h_t = u h_{t−1} + (1 − u) c

and differ in where the reset gate enters the candidate c:

- Cho et al. (2014) and TensorFlow's cells: c = tanh(W_c x_t + U_c (r h_{t−1}) + b_c).
- cuDNN and torch: c = tanh(W_c x_t + b_c + r (U_c h_{t−1} + b'_c)).

Padding stands at the end of a sequence, so no state at a valid step depends on it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Cell = Literal["original", "torch"]

CELLS: tuple[Cell, ...] = ("original", "torch")
"""``original`` applies the reset gate before the recurrent product, ``torch`` after it. On a CPU neither is faster; on
a GPU cuDNN computes all steps of the latter at once."""


class OriginalGRU(nn.Module):
    """The cell of Cho et al. (2014), as ``tf.nn.rnn_cell.GRUCell`` and Keras's ``reset_after=False`` have it.

    The products with the inputs of all steps are one matrix product; only the recurrent ones go step by step.
    Rows of the weights stand in torch's order: reset, update, candidate.

    Args:
        features: values per step.
        units: size of the state.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.units = units
        inputs, recurrent, bias = tensorflow_weights(features, units)
        self.input_weight = nn.Parameter(inputs)
        self.recurrent_weight = nn.Parameter(recurrent)
        self.bias = nn.Parameter(bias)

    def forward(self, values: Tensor) -> Tensor:
        """The state after each step.

        Args:
            values: [batch, time, features].

        Returns:
            [batch, time, units].
        """
        products = functional.linear(values, self.input_weight, self.bias)
        gates, candidates = products[..., : 2 * self.units], products[..., 2 * self.units :]
        to_gates, to_candidate = (
            self.recurrent_weight[: 2 * self.units].t(),
            self.recurrent_weight[2 * self.units :].t(),
        )
        state = values.new_zeros(len(values), self.units)
        states = []
        for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
            reset, update = torch.addmm(gate, state, to_gates).sigmoid().chunk(2, dim=1)
            proposed = torch.addmm(candidate, reset * state, to_candidate).tanh()
            state = torch.lerp(proposed, state, update)
            states.append(state)
        return torch.stack(states, dim=1)


class TorchGRU(nn.Module):
    """``torch.nn.GRU`` of one layer and direction, begun with the weights that TensorFlow's cell begins with.

    Args:
        features: values per step.
        units: size of the state.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.layer = nn.GRU(features, units, batch_first=True)
        inputs, recurrent, bias = tensorflow_weights(features, units)
        self.layer.load_state_dict(
            {
                "weight_ih_l0": inputs,
                "weight_hh_l0": recurrent,
                "bias_ih_l0": bias,
                "bias_hh_l0": torch.zeros_like(bias),
            }
        )

    def forward(self, values: Tensor) -> Tensor:
        """The state after each step, [batch, time, features] to [batch, time, units]."""
        states: Tensor = self.layer(values)[0]
        return states


def build_gru(cell: Cell, features: int, units: int) -> OriginalGRU | TorchGRU:
    """A layer with one of `CELLS`, from [batch, time, features] to [batch, time, units].

    Raises:
        ValueError: there is no such cell.
    """
    if cell not in CELLS:
        raise ValueError(f"cell = {cell!r}: must be one of {', '.join(CELLS)}")
    return (OriginalGRU if cell == "original" else TorchGRU)(features, units)


def tensorflow_weights(features: int, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """Initial weights of TensorFlow's cell under an orthogonal initialiser.

    It keeps the weights of input and state in one kernel for both gates and one for the candidate; each kernel is
    orthogonal as a whole. Gates begin open, with a bias of 1.

    Returns:
        Input weights [3 · units, features], recurrent weights [3 · units, units] and bias [3 · units], each with
        the rows of reset, update and candidate.
    """
    kernels = [nn.init.orthogonal_(torch.empty(rows, features + units)) for rows in (2 * units, units)]
    kernel = torch.cat(kernels)
    bias = torch.cat([torch.ones(2 * units), torch.zeros(units)])
    return kernel[:, :features].contiguous(), kernel[:, features:].contiguous(), bias
