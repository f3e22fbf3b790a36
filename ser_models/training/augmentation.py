"""Augmentation while training: the batches of an epoch, altered anew each time.

Random numbers are drawn per example from the seed, the epoch and the example, so that a run gives the same batches
whatever the number of workers. Validation and test parts never pass through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ser_models.errors import UserError
from ser_models.features.augment import augment_features, generator, parse_augmentations
from ser_models.features.views import parse_specs
from ser_models.models.batch import Ragged
from ser_models.training.batches import mix
from ser_models.training.data import Portion

_FULL_SCALE = 32768.0  # of int16, as the view ``waveform`` stores it


@dataclass(frozen=True)
class Augmentation:
    """What is done to the training examples of a run.

    Attributes:
        features: augmentations of the kind ``features``, for every view of numbers [frames, features].
        waveform: augmentations of the kind ``waveform``, for the view ``waveform``.
        sample_rates: per view that is a waveform, in Hz.
    """

    features: Sequence[Any]
    waveform: Sequence[Any]
    sample_rates: Mapping[str, int]

    @classmethod
    def parse(cls, text: str, views: Sequence[str]) -> Augmentation:
        """From the notation ``spec_augment,noise[low=5]``.

        Raises:
            UserError: an unknown augmentation or setting, one that makes copies, or one for which no view is read.
        """
        chain = parse_augmentations(text, ("features", "waveform"))
        heard = [view for view in views if view.partition("[")[0] == "waveform"]
        features = [each for each in chain if each.kind == "features"]
        waveform = [each for each in chain if each.kind == "waveform"]
        if waveform and not heard:
            raise UserError(
                f"augmentation {waveform[0].name!r} changes waveforms, but the system reads {', '.join(views)}"
            )
        if features and len(heard) == len(views):
            raise UserError(
                f"augmentation {features[0].name!r} changes features, but the system reads waveforms"
            )
        if crowd := [each for each in waveform if each.name == "babble"]:
            raise UserError(
                f"augmentation {crowd[0].name!r} needs the voices of a training part: use it from Python"
            )
        return cls(features, waveform, {view: parse_specs(view)[0].settings["sample_rate"] for view in heard})

    def __bool__(self) -> bool:
        return bool(self.features or self.waveform)

    def applied(self, portions: Iterable[Portion], seed: int, epoch: int) -> Iterator[Portion]:
        """The portions of one epoch with every input altered that an augmentation is for.

        Args:
            portions: of this worker.
            seed: of the fold.
            epoch: counted from 1.
        """
        for portion in portions:
            inputs = dict(portion.batch.inputs)
            for name, value in inputs.items():
                if not isinstance(value, Ragged):
                    continue
                # Each input has numbers of its own, and a padding example none that matter.
                own = mix("augment", seed, name)
                generators = [generator(own, epoch, int(pick)) for pick in portion.picks]
                if name in self.sample_rates:
                    inputs[name] = self._sound(value, self.sample_rates[name], generators)
                elif self.features and value.values.dim() == 3 and value.values.is_floating_point():
                    values = augment_features(self.features, value.values, value.lengths, generators)
                    inputs[name] = Ragged(values, value.lengths)
            yield replace(portion, batch=replace(portion.batch, inputs=inputs))

    def _sound(self, value: Ragged, sample_rate: int, generators: Sequence[np.random.Generator]) -> Ragged:
        if not self.waveform:
            return value
        from ser_models.features.augment_waveform import Sound, augment_waveforms

        samples = value.values.float() / _FULL_SCALE
        sound = augment_waveforms(self.waveform, Sound(samples, value.lengths, sample_rate, generators))
        scaled = (sound.samples * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1)
        return Ragged(scaled.to(torch.int16), sound.lengths)
