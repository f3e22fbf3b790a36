"""Joining or starting Ray, without its console flood and with one thread per worker."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from ser_models.errors import UserError, WorkError

_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # the project has its own display
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # Ray would install the driver's uv environment on every worker
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextlib.contextmanager
def ray_session(cpus: int | None = None, *, dashboard: bool = False) -> Iterator[None]:
    """Make sure that Ray runs inside the block.

    A process that is connected already stays so. Inside ``ray job submit``, or with ``RAY_ADDRESS`` set, the
    cluster is joined. Else a Ray of one's own starts on this machine and stops at the end.

    Args:
        cpus: processors of a local Ray; None takes the machine's.
        dashboard: whether a local Ray has its dashboard, which studies need.

    Raises:
        UserError: there is no cluster at ``RAY_ADDRESS``.
        WorkError: Ray could not be started here.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **options)
        else:
            # "local": not whatever Ray some other program has left running here. RAY_AUTH_MODE is left to
            # Ray, which sets it for this process and all its children.
            with _one_thread_each():
                ray.init(address="local", num_cpus=cpus, include_dashboard=dashboard, **options)
    except Exception as error:  # a slow start is a bare Exception in Ray
        if address:
            raise UserError(f"RAY_ADDRESS {address!r} cannot be joined: {error}") from error
        raise WorkError(f"Ray could not be started on this machine: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started inside the block read 1 where libraries look for their number of threads.

    What the user has set stays; workers that own several processors raise the number themselves.
    """
    added = [name for name in _ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
