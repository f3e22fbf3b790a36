"""The state of a fold in training: written after an epoch, read when a killed run goes on."""

import io
from typing import Any

import torch

from ser_models import places

STATE = "state.pt"


def save_state(folder: str, state: dict[str, Any]) -> None:
    """Write the state in one piece: what was there before stays readable until the new state is whole."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    places.write_bytes(places.join(folder, STATE), buffer.getvalue())


def load_state(folder: str) -> dict[str, Any] | None:
    """Read the last state, or None where none was written. Nothing in the file is executed."""
    try:
        content = places.read_bytes(places.join(folder, STATE))
    except FileNotFoundError:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def remove_state(folder: str) -> None:
    """Delete the state of a fold that is done."""
    places.remove(folder)
