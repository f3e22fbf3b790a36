"""The ledger of test reads: one line each time the test part of a fold is scored."""

import json
import uuid
from datetime import UTC, datetime

from ser_models import places


def record(run: str, *, seed: int, fold: int, rows: int, why: str, times: int = 1) -> None:
    """Add reads to a run's ledger; to be called before the test part is looked at, so that none is forgotten.

    Args:
        run: URI of the run directory.
        seed: of the run.
        fold: whose test part was read.
        rows: utterances read.
        why: what for, in a few words.
        times: how often.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {
        "time": now,
        "seed": seed,
        "fold": fold,
        "rows": rows,
        "why": why,
    }
    # One file per read: workers on several nodes write without a lock.
    name = (
        f"{now.replace(':', '')}-seed-{seed}-fold-{fold}-{why.replace(' ', '-')}-{uuid.uuid4().hex[:6]}.json"
    )
    line = json.dumps(entry) + "\n"
    places.write_bytes(places.join(run, "ledger", name), (line * times).encode())


def read(run: str) -> list[dict[str, object]]:
    """All reads so far, oldest first."""
    folder = places.join(run, "ledger")
    # Names that begin with a dot are being written.
    names = [name for name in places.list_names(folder) if not name.startswith(".")]
    lines = [line for name in names for line in places.read_bytes(places.join(folder, name)).splitlines()]
    return [json.loads(line) for line in lines]
