"""AVDAL: audio-visual domain adaptation learning (Wei, Hu, Yang, Luu, Dong; Interspeech 2022).

Input: logarithmic mel energies [batch, time, 40] and, to train, grey faces [batch, 5, 224, 40] uint8. Output: logits
[batch, classes]. Speech alone is enough to predict.

One encoder reads both: five segments of 224 frames of 40 bands, or five pictures of 224 rows and 40 columns. One
classifier learns the emotion from both, another learns which of the two it sees, and its reversed gradient lets the
encoder forget it. An utterance is two training examples: its speech (`AUDIO`) and its faces (`VIDEO`). Only
speech is validated and tested.

The public code is followed where the paper is silent: λ = 1 throughout, both losses weigh the same, the logits of the
segments are averaged for both classifiers. Its trunk is ResNet-18; ``trunk="mdscm"`` is its other variant.
With raw mel energies beside pictures in [−1, 1] the two are told apart without effort, so the paper's reversal has
little to do; the preset ``clean`` standardises the energies.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_models import places
from ser_models.errors import UserError
from ser_models.models.batch import Batch, Ragged, ragged
from ser_models.models.labels import LabelSet, hard_targets
from ser_models.models.mdscm import (
    FRAMES,
    QUIRKS,
    MapNorm,
    MDSCMTrunk,
    check_settings,
    descent,
    mean_by_example,
    require_published,
    spoken_segments,
)
from ser_models.models.reversal import GradientReversal
from ser_models.models.system import (
    Net,
    Preset,
    Step,
    System,
    clean_protocol,
    cross_entropy_sum,
    example_table,
)

AUDIO, VIDEO = 0, 1
"""`Batch.domain` of speech and of faces."""

SPEECH, FACES = "log_filterbank", "face_frames"

_EVERY_FRAME = 2**31 - 1

Trunk = Literal["resnet18", "mdscm"]


class AVDAL(Net):
    """The network; defaults give the paper's (11,198,983 parameters with 4 classes), untrained.

    Args:
        num_classes: number of classes.
        features: mel bands per frame, and columns of a picture.
        trunk: the encoder; the ResNet has a domain classifier of 512–50–20–1 units, MDSCM one of 768–128–20–1.
        weights: URI of torchvision's weights of ResNet-18 (``.pth`` or ``.safetensors``), from which training starts
            as the paper did from ImageNet's, but for the first convolution and the classifier. They are read by
            `start`, so that a trained model does not need the file. Empty: start from chance.
        reversal: λ.
        reversal_rise: updates over which λ grows from 0; 0 keeps it constant.
        emotion_weight: of the emotion's loss.
        domain_weight: of the domain's loss.
        average_zero_segments: a quirk of the public code, see `ser_models.models.mdscm`.
        double_softmax, inplace_relu_shortcut: the same, of the trunk ``mdscm`` only.
        learning_rate: of stochastic gradient descent with momentum.
        decay_epochs: epochs after which the learning rate is halved.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        features: int = 40,
        trunk: Trunk = "resnet18",
        weights: str = "",
        reversal: float = 1.0,
        reversal_rise: int = 0,
        emotion_weight: float = 1.0,
        domain_weight: float = 1.0,
        average_zero_segments: bool = False,
        double_softmax: bool = False,
        inplace_relu_shortcut: bool = False,
        learning_rate: float = 0.005,
        decay_epochs: Sequence[int] = (2, 4, 6, 8),
    ) -> None:
        super().__init__()
        check_settings(num_classes, features, learning_rate, decay_epochs)
        if trunk not in get_args(Trunk):
            raise ValueError(f"trunk = {trunk!r}: must be one of {', '.join(get_args(Trunk))}")
        for name, weight in {"emotion_weight": emotion_weight, "domain_weight": domain_weight}.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{name} = {weight}: must be a number of 0 or more")
        if trunk == "mdscm" and weights:
            raise ValueError("weights are of ResNet-18: they need trunk = resnet18")
        if trunk == "resnet18" and (double_softmax or inplace_relu_shortcut):
            raise ValueError("double_softmax and inplace_relu_shortcut are quirks of trunk = mdscm")
        self.weights = weights
        self.emotion_weight = emotion_weight
        self.domain_weight = domain_weight
        self.average_zero_segments = average_zero_segments
        self.double_softmax = double_softmax
        self.learning_rate = learning_rate
        self.decay_epochs = tuple(decay_epochs)
        self.trunk: nn.Module
        if trunk == "resnet18":
            self.trunk, width, hidden = resnet18_trunk(), 512, 50
        else:
            self.trunk = MDSCMTrunk(
                features, inplace_relu_shortcut=inplace_relu_shortcut, dropout=0.5, transformer_dropout=0.4
            )
            width, hidden = self.trunk.width, 128
        self.classifier = nn.Linear(width, num_classes)
        self.domain_classifier = nn.Sequential(
            GradientReversal(reversal, reversal_rise),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 20),
            nn.ReLU(),
            nn.Linear(20, 1),
        )

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Read the first input, `Ragged` mel energies [batch, time, features], of the examples of `AUDIO`.

        The second input, `Ragged` pictures [batch, pictures, 224, features], is read of the examples of `VIDEO`. Where
        it is missing every example is speech.

        Returns:
            ``logits`` [batch, classes], and ``domain`` [batch], the logit of being speech.
        """
        names = list(batch.inputs)
        speech = ragged(batch.inputs, names[0])
        if len(names) == 1:
            segments, owner = spoken_segments(speech, with_zeros=self.average_zero_segments)
        else:
            segments, owner = self._both(speech, ragged(batch.inputs, names[1]), batch.domain)
        encoded = self.trunk(segments)
        return {
            "logits": mean_by_example(self.classifier(encoded), owner, len(speech)),
            "domain": mean_by_example(self.domain_classifier(encoded), owner, len(speech))[:, 0],
        }

    def _both(self, speech: Ragged, faces: Ragged, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Segments of the examples of one domain, pictures of those of the other, and their examples."""
        spoken, seen = (domain == AUDIO).nonzero()[:, 0], (domain == VIDEO).nonzero()[:, 0]
        segments, speaker = spoken_segments(
            Ragged(speech.values[spoken], speech.lengths[spoken]), with_zeros=self.average_zero_segments
        )
        there = Ragged(faces.values[seen], faces.lengths[seen]).mask()
        pictures = grey_to_unit(faces.values[seen][there], segments.dtype)[:, None]
        return torch.cat([segments, pictures]), torch.cat([spoken[speaker], seen[there.nonzero()[:, 0]]])

    def loss(self, outputs: dict[str, Tensor], batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Cross entropy of the emotion, binary cross entropy of the domain with speech as 1."""
        logits = outputs["logits"].softmax(1) if self.double_softmax else outputs["logits"]
        is_speech = (batch.domain == AUDIO).to(logits.dtype)
        told_apart = functional.binary_cross_entropy_with_logits(
            outputs["domain"], is_speech, batch.weight, reduction="sum"
        )
        return {
            "emotion": self.emotion_weight * cross_entropy_sum(logits, batch.target, batch.weight),
            "domain": self.domain_weight * told_apart,
        }

    def start(self, target: Tensor) -> None:
        """Take the pretrained weights, where some are given.

        Raises:
            UserError: the file is missing or does not hold torchvision's ResNet-18.
        """
        if self.weights:
            load_resnet18(self.trunk, self.weights)


def grey_to_unit(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Grey levels 0 to 255 to [−1, 1]: the original's mean and standard deviation of 0.5.

    >>> grey_to_unit(torch.tensor([0, 255], dtype=torch.uint8), torch.float32)
    tensor([-1.,  1.])
    """
    return values.to(dtype) / 127.5 - 1


def resnet18_trunk() -> nn.Module:
    """The ResNet-18 of torchvision for pictures of one channel, down to the average over its last map.

    Returns:
        [segments, 1, height, width] to [segments, 512].
    """
    import torchvision  # takes a second, and only this trunk needs it

    network: Any = torchvision.models.resnet18(weights=None, norm_layer=MapNorm)
    network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    trunk: nn.Module = network
    return trunk


def load_resnet18(trunk: nn.Module, uri: str) -> None:
    """Load torchvision's weights of ResNet-18 into a trunk, but for the first convolution and the classifier.

    Args:
        trunk: what `resnet18_trunk` gives.
        uri: of a state dict, ``.pth`` or ``.safetensors``; nothing in it is executed.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = places.read_bytes(uri)
        state = (
            load(content)
            if uri.endswith(".safetensors")
            else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise UserError(f"weights = {uri!r}: there is no such file") from error
    except (EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(
            f"weights = {uri!r} is not a state dict of tensors (.pth or .safetensors), or it is damaged"
        ) from error
    own = trunk.state_dict()
    wanted = own.keys() - {"conv1.weight"}
    found = {
        name.replace("running_var", "running_variance"): tensor
        for name, tensor in (state.items() if isinstance(state, dict) else ())
    }
    if any(getattr(found.get(name), "shape", None) != own[name].shape for name in wanted):
        raise UserError(f"weights = {uri!r} does not hold the weights of torchvision's resnet18")
    trunk.load_state_dict({name: found[name] for name in wanted}, strict=False)


class AVDALSystem(System):
    """AVDAL's declaration.

    The original's batch of 32 utterances and 32 videos is a batch of 64 examples here, drawn from both at random, so
    that it holds about as many of each. Its learning rate is halved at 10, 20, 30 and 40 steps of a schedule that it
    advances after each of the five altered copies of the data, and so after 2, 4, 6 and 8 epochs; an epoch is the
    data and its four copies, which preprocessing makes (``--copies 4 --alter vtlp[rule=nlpaug]``).

    ImageNet's weights do not come with this project: without ``model.weights`` training starts from chance, in
    ``faithful`` too.

    The original's video stream also held the test utterances, labels included. Here faces follow their utterance: only
    those of the training part are seen, in ``faithful`` too.
    """

    name = "avdal"
    title = "AVDAL"
    source = "Wei et al., Interspeech 2022"
    net = AVDAL

    def preset(self, name: str, corpus: str) -> Preset:
        """The original's random draws of utterances with its code's quirks, or strangers in the test part."""
        if name == "faithful":
            require_published(self.title, corpus)
            return Preset(
                protocol="avdal-published",
                views=(SPEECH, FACES),
                normalise="none",
                epochs=200,
                batch_size=64,
                model={"average_zero_segments": QUIRKS["average_zero_segments"]},
            )
        if name == "clean":
            return Preset(
                protocol=clean_protocol(corpus),
                views=(SPEECH, FACES),
                normalise="global",
                epochs=50,
                patience=10,
                batch_size=64,
                inherited=("reversal", "domain_weight", "learning_rate", "decay_epochs", "batch_size"),
            )
        raise UserError(f"system {self.name!r} has no preset {name!r}; it has: faithful, clean")

    def steps(self, net: Any) -> list[Step]:
        """Stochastic gradient descent, as in the public code."""
        return [descent(net, net.learning_rate, net.decay_epochs)]

    def sizes(self, shapes: Mapping[str, tuple[int, ...]], fitted: Mapping[str, Any]) -> dict[str, Any]:
        """The bands of the energies, which the columns of the pictures must equal."""
        speech, *pictures = shapes.items()
        features = speech[1][0]
        for view, shape in pictures:
            if shape != (FRAMES, features):
                raise UserError(
                    f"{self.title} reads {speech[0]} and {view} with one encoder: pictures must have {FRAMES} rows and "
                    f"{features} columns, found {shape}; set its height and width"
                )
        return {"features": features}

    def examples(self, manifest: pa.Table, labels: LabelSet) -> pa.Table:
        """Two per utterance: its speech, and its faces, which are only trained on; no faces without a video.

        The frames of a video's example are its speech's, although the network leaves them unread: batches bring
        examples of similar length together, and those without length would make batches of faces only.
        """
        targets = hard_targets(manifest["emotion"].to_pylist(), labels)
        filmed = np.flatnonzero(manifest["video"].is_valid().to_numpy()[targets.rows])
        picked = np.concatenate([np.arange(len(targets.rows)), filmed])
        domain = np.repeat([AUDIO, VIDEO], [len(targets.rows), len(filmed)])
        first = np.zeros(len(picked), dtype=np.int64)
        return example_table(
            rows=targets.rows[picked],
            target=targets.target[picked],
            ranges={FACES: (first, np.where(domain == VIDEO, _EVERY_FRAME, 0))},
            domain=domain,
            train_only=domain == VIDEO,
        )
