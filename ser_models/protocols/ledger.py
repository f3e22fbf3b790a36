"""The ledger of test reads: one line each time the test part of a fold is scored."""

import json
import uuid
from datetime import UTC, datetime

from ser_models import places


def record(run: str, *, seed: int, fold: int, rows: int, why: str) -> None:
    """Add one read to a run's ledger.

    Args:
        run: URI of the run directory.
        seed: of the run.
        fold: whose test part was read.
        rows: utterances read.
        why: what for, in a few words.
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
    places.write_bytes(places.join(run, "ledger", name), json.dumps(entry).encode())


def read(run: str) -> list[dict[str, object]]:
    """All reads so far, oldest first."""
    folder = places.join(run, "ledger")
    return [json.loads(places.read_bytes(places.join(folder, name))) for name in places.list_names(folder)]
