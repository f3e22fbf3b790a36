"""A trained model as a folder: weights, fitted preprocessing, configuration and a card. Nothing in it is executed.

``model.safetensors`` holds the network, ``preprocessing.safetensors`` what was fitted on the training part,
``config.json`` everything needed to rebuild both, ``README.md`` says what the model is and is not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ser_models import __version__, places
from ser_models.errors import UserError
from ser_models.features.transforms import Fitted
from ser_models.models import build_model
from ser_models.models.system import Net

FORMAT = 1
"""Version of the folder's layout."""


@dataclass(frozen=True)
class SavedModel:
    """What a model folder holds.

    Attributes:
        net: the network in evaluation mode.
        system: name in the registry.
        arguments: of the network's constructor, beside ``num_classes``.
        classes: names in index order, or those of the dimensions.
        views: view specs in the order of the network's inputs.
        fitted: per view what was fitted on the training part, or nothing.
        about: protocol, corpus, fold and counts, for the card.
    """

    net: Net
    system: str
    arguments: Mapping[str, Any]
    classes: tuple[str, ...]
    views: tuple[str, ...]
    fitted: Mapping[str, Fitted]
    about: Mapping[str, Any]


def save_model(folder: str, model: SavedModel) -> None:
    """Write a model folder; the configuration comes last, so a folder with one is complete."""
    arrays = {
        f"{view}/{name}": np.ascontiguousarray(array)
        for view, fitted in model.fitted.items()
        for name, array in fitted.arrays.items()
    }
    config = {
        "format": FORMAT,
        "ser_models": __version__,
        "system": model.system,
        "arguments": dict(model.arguments),
        "classes": list(model.classes),
        "views": list(model.views),
        "fitted": {
            view: {"kind": fitted.kind, "fitted_on": fitted.fitted_on}
            for view, fitted in model.fitted.items()
        },
        "about": dict(model.about),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.net.state_dict().items()}
    places.write_bytes(places.join(folder, "model.safetensors"), save_tensors(state))
    places.write_bytes(places.join(folder, "preprocessing.safetensors"), save_arrays(arrays))
    places.write_bytes(places.join(folder, "README.md"), _card(model).encode())
    places.write_bytes(places.join(folder, "config.json"), json.dumps(config, indent=2).encode())


def load_model(folder: str) -> SavedModel:
    """Read a model folder.

    Raises:
        UserError: the folder is missing, incomplete, or of a newer format.
    """
    try:
        config = json.loads(places.read_bytes(places.join(folder, "config.json")))
        state = load_tensors(places.read_bytes(places.join(folder, "model.safetensors")))
        arrays = load_arrays(places.read_bytes(places.join(folder, "preprocessing.safetensors")))
    except FileNotFoundError as error:
        missing = places.name(str(error.filename or error))
        raise UserError(f"{folder} is not a complete model folder: {missing} is missing") from error
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{folder} is a damaged model folder: {error}") from error
    if config["format"] > FORMAT:
        raise UserError(f"{folder} has format {config['format']}; this version reads up to {FORMAT}")
    net = build_model(config["system"], num_classes=len(config["classes"]), **config["arguments"])
    net.load_state_dict(state)
    net.eval()
    fitted = {
        view: Fitted(
            entry["kind"],
            {name.rpartition("/")[2]: a for name, a in arrays.items() if name.rpartition("/")[0] == view},
            entry["fitted_on"],
        )
        for view, entry in config["fitted"].items()
    }
    return SavedModel(
        net=net,
        system=config["system"],
        arguments=config["arguments"],
        classes=tuple(config["classes"]),
        views=tuple(config["views"]),
        fitted=fitted,
        about=config["about"],
    )


def _card(model: SavedModel) -> str:
    about = model.about
    synthetic = "\n**Trained on a SYNTHETIC corpus: its scores say nothing about human speech.**\n"
    leaks = ", ".join(about["leaks"]) or "none"
    counts = ", ".join(f"{part} {count}" for part, count in about["counts"].items())
    return f"""# {model.system} on {about["corpus"]}, fold {about["fold"]}
{synthetic if about["synthetic"] else ""}
- System: {model.system}, arguments {json.dumps(dict(model.arguments))}
{_outputs(model)}
- Input: {", ".join(model.views)}
- Protocol: {about["preset"]}: {about["protocol"]}
- Leaks that the protocol names: {leaks}
- Utterances: {counts}; held-out {about["unit"]}: {", ".join(about["test_units"]) or "random utterances"}
- Selected epoch: {about["selected_epoch"]}

Intended for research on speech emotion recognition. The labels are what listeners or directors called acted or
recorded speech in this corpus, not what a speaker felt. Scores for other speakers, languages, microphones and
situations are lower than those of the run's report. Not for decisions about people.
"""


def _outputs(model: SavedModel) -> str:
    """The card's lines on what comes out, and on which scale."""
    names = ", ".join(model.classes)
    if model.about["objective"] == "emotion":
        return f"- Objective: emotion\n- Classes, in order: {names}"
    learnt = "; ".join(
        f"{name} {facts['lowest']:g} to {facts['highest']:g}, mean {facts['mean']:.2f}, sd {facts['sd']:.2f}"
        for name, facts in model.about["train_dimensions"].items()
    )
    lines = [
        "- Objective: dimensions",
        f"- Outputs, in order: {names}",
        f"- Scale: the corpus's own; in the training part {learnt}",
    ]
    return "\n".join(lines)
