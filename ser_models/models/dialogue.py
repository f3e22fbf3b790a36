"""Dialogue context: which earlier turns of a conversation an utterance is heard after."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

LOOK_BACK = 8
"""Turns of the dialogue that are looked through for context (Yeh et al., ICASSP 2019, on which MAEC builds)."""

Rows = np.ndarray[Any, np.dtype[np.int64]]


def context_turns(manifest: pa.Table, *, look_back: int = LOOK_BACK) -> dict[str, Rows]:
    """Find the speaker's own previous turn and the interlocutor's last turn of every utterance.

    Turns without a label count too: they were said. A turn whose speaker is unknown is nobody's context.

    Args:
        manifest: columns ``dialogue``, ``turn`` and ``speaker``.
        look_back: how many turns before its own an utterance's context may lie, by the corpus's numbering.

    Returns:
        ``previous`` and ``interlocutor``, each [utterances] rows of the manifest, −1 where there is none.

    Raises:
        ValueError: look_back is below 1.
    """
    if look_back < 1:
        raise ValueError(f"look_back = {look_back}: must be at least 1 turn")
    dialogues, turns, speakers = (manifest[name].to_pylist() for name in ("dialogue", "turn", "speaker"))
    talks: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, (dialogue, turn) in enumerate(zip(dialogues, turns, strict=True)):
        if dialogue is not None and turn is not None:
            talks[dialogue].append((turn, row))
    previous = np.full(len(dialogues), -1, dtype=np.int64)
    interlocutor = previous.copy()
    for talk in talks.values():
        last: dict[str, tuple[int, int]] = {}  # speaker → turn and row of what they said last
        for turn, row in sorted(talk):
            speaker = speakers[row]
            if speaker is None:
                continue
            recent = {name: said for name, said in last.items() if turn - said[0] <= look_back}
            if speaker in recent:
                previous[row] = recent[speaker][1]
            others = [said for name, said in recent.items() if name != speaker]
            if others:
                interlocutor[row] = max(others)[1]
            last[speaker] = (turn, row)
    return {"previous": previous, "interlocutor": interlocutor}
