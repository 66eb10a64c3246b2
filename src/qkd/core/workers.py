"""Work on several cores, in processes: Aer holds the interpreter lock while it simulates."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from qkd.core import objects

T = TypeVar("T")

mapper: Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]] | None = None
"""A function that runs tasks elsewhere, in order; ``cluster.over_ray`` sets it."""
_watching = False
_pooled = False


def parallel_map(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int | None = None
) -> Iterator[T]:
    """Yield ``function(*task)`` of each task, in order.

    Args:
        function: A function of a module; its arguments and results are pickled. The task seeds its random numbers, so
            the number of processes changes nothing.
        processes: Maximum number of processes; None takes one for each core. One process or one task runs right here.
    """
    if mapper is not None:
        yield from mapper(function, tasks)
        return
    import joblib

    count = min(processes or joblib.cpu_count(), len(tasks))
    if count <= 1:
        yield from (function(*task) for task in tasks)
        return
    global _pooled
    _pooled = True
    run = joblib.delayed(_run)
    parallel = joblib.Parallel(n_jobs=count, return_as="generator")
    losses = objects.losses()
    yield from parallel(run(os.getpid(), losses, function, task) for task in tasks)


def shut_down() -> None:
    """End the processes of ``parallel_map``, if there are any; this can take seconds."""
    global _pooled
    if _pooled:
        _pooled = False
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown()


def _run(driver: int, losses: Mapping[str, Any], function: Callable[..., T], task: tuple[Any, ...]) -> T:
    global _watching
    objects.add_losses(losses)
    if not _watching:
        _watching = True
        _end_with(driver)
    return function(*task)


def _end_with(driver: int) -> None:
    """End this worker when the driver is gone: a killed driver cannot tell its workers."""
    if os.getppid() != driver:  # threads, or a worker on another machine
        return
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)  # reaches a worker inside a long call of Aer, too

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
