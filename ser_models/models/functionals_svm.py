"""Functionals and a linear support vector machine: the classical row beside every network.

Input: any view [batch, time, features]. Each feature's mean, standard deviation and percentiles over time are
standardised on the training part and classified one-vs-rest by scikit-learn's ``LinearSVC``. What comes out is a
linear map, so the fitted system is a network like any other: saved, loaded, scored and exported the same way.
Margins are not probabilities: the softmax of margins that reports show is only a monotone display.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from ser_models.errors import UserError
from ser_models.models.batch import Batch, Ragged, ragged
from ser_models.models.system import Net, Preset, Step, System
from ser_models.models.timnet import TIMNetSystem

PERCENTILES = (5, 25, 50, 75, 95)


def functionals(sequence: Ragged) -> Tensor:
    """Mean, standard deviation and percentiles over the valid frames.

    Args:
        sequence: values [batch, time, features].

    Returns:
        [batch, 7 × features]; 0 for an empty sequence.
    """
    rows = []
    for values, length in zip(sequence.values, sequence.lengths.tolist(), strict=True):
        valid = values[:length].double()
        if length == 0:
            rows.append(values.new_zeros((2 + len(PERCENTILES)) * values.shape[1]))
            continue
        levels = torch.tensor(PERCENTILES, dtype=torch.float64, device=values.device) / 100
        summary = [valid.mean(0), valid.std(0, correction=0), *torch.quantile(valid, levels, dim=0)]
        rows.append(torch.cat(summary).to(values.dtype))
    return torch.stack(rows)


class FunctionalsSVM(Net):
    """Standardised functionals through a linear map.

    Args:
        num_classes: number of classes.
        features: values per frame.
        penalty: C of the support vector machine.
        balanced: weigh classes by their inverse frequency.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, num_classes: int, *, features: int, penalty: float = 0.01, balanced: bool = True
    ) -> None:
        super().__init__()
        if penalty <= 0:
            raise ValueError(f"penalty = {penalty}: must be positive")
        width = (2 + len(PERCENTILES)) * features
        self.penalty = penalty
        self.balanced = balanced
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Margins as logits."""
        summary = functionals(ragged(batch.inputs, next(iter(batch.inputs))))
        return {"logits": self.classifier((summary - self.centre) * self.scale)}

    @torch.no_grad()
    def fit(self, batch: Batch) -> None:
        """Fit the scaler and the support vector machine on the examples of the batch."""
        summary = functionals(ragged(batch.inputs, next(iter(batch.inputs)))).double()
        spread = summary.std(0, correction=0)
        self.centre.copy_(summary.mean(0))
        self.scale.copy_(torch.where(spread > 0, 1 / spread.clamp(min=1e-12), 0.0))
        inputs = ((summary - self.centre) * self.scale).numpy()
        labels = batch.target.argmax(1).numpy()
        machine = LinearSVC(
            C=self.penalty,
            class_weight="balanced" if self.balanced else None,
            dual=len(inputs) < inputs.shape[1],
            max_iter=20_000,
            random_state=0,
        )
        machine.fit(inputs, labels, sample_weight=batch.weight.numpy())
        weight = np.zeros((self.classifier.out_features, inputs.shape[1]), np.float32)
        # A class that never occurs in training must never win.
        bias = np.full(self.classifier.out_features, -1e3, np.float32)
        if len(machine.classes_) == 2:
            weight[machine.classes_] = np.concatenate([-machine.coef_, machine.coef_])
            bias[machine.classes_] = np.concatenate([-machine.intercept_, machine.intercept_])
        else:
            weight[machine.classes_] = machine.coef_
            bias[machine.classes_] = machine.intercept_
        self.classifier.weight.copy_(torch.from_numpy(weight))
        self.classifier.bias.copy_(torch.from_numpy(bias))


class FunctionalsSVMSystem(System):
    """The baseline runs under TIM-Net's protocols, on the same views, so that the rows can be compared."""

    name = "svm"
    title = "functionals + linear SVM"
    source = "baseline of this project (scikit-learn)"
    net = FunctionalsSVM
    aggregate = "mean_logit"
    closed_form = True

    def preset(self, name: str, corpus: str) -> Preset:
        """TIM-Net's preset of the same name: nothing is selected, but both rows saw the same training part."""
        theirs = TIMNetSystem().preset(name, corpus)
        return Preset(
            protocol=theirs.protocol,
            views=theirs.views,
            normalise="none",
            epochs=1,
            batch_size=theirs.batch_size,
        )

    def steps(self, net: FunctionalsSVM) -> list[Step]:
        """None: the fit is in closed form."""
        if not isinstance(net, FunctionalsSVM):
            raise UserError("the SVM baseline fits only its own network")
        return []
