"""Work spread over a Ray cluster (``pip install 'qkd-llm[ray]'``).

The unit of work is a chunk of the cache. The driver saves each chunk as it arrives, so the rows equal those of one
process, and a worker that dies costs one chunk. Workers receive the name of a model, not its weights, and load it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from qkd.core import cache, objects, workers
from qkd.core.errors import QkdError, ServiceError, require_extra


@contextmanager
def over_ray(address: str | None) -> Iterator[None]:
    """Let every computation of rows and every task inside this context run on a Ray cluster.

    Args:
        address: ``local`` for a cluster on this machine alone, else what ``ray.init`` takes; None changes nothing.

    Raises:
        QkdError: Ray is not installed, or there is no cluster at the address.
    """
    if address is None:
        yield
        return
    require_extra("--ray", "ray", "ray")
    import ray

    started = not ray.is_initialized()
    if started:
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise ServiceError(
                f"--ray {address}: no cluster answers there ({first}); start one with 'ray start'"
            ) from None
    before, crew = (cache.mapper, workers.mapper), _Crew()
    cache.mapper, workers.mapper = crew.mapped, _tasks
    try:
        yield
    finally:
        cache.mapper, workers.mapper = before
        crew.dismiss()
        if started:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise an ``OSError`` where nothing listens: Ray itself would end the whole process."""
    import re
    import socket

    where = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if where:
        socket.create_connection((where[1], int(where[2])), timeout=10).close()


def _tasks(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield ``function(*task)`` of each task, in order; a worker that dies costs the task it had."""
    import ray

    losses = objects.losses()

    def tried(task: tuple[Any, ...]) -> tuple[Any, str]:
        objects.add_losses(losses)
        try:
            return function(*task), ""
        except QkdError as mistake:  # as a value: Ray would wrap it beyond recognition, and try again
            return None, str(mistake)

    remote = ray.remote(max_retries=-1)(tried)
    for handle in [remote.remote(task) for task in tasks]:
        result, error = ray.get(handle)
        if error:
            raise QkdError(error)
        yield result


class _Worker:
    """One worker process: the function, unpacked once, applied to chunk after chunk."""

    def __init__(self) -> None:
        self._function, self._compute = 0, _nothing

    def run(
        self, function: int, packed: list[Any], chunk: int, texts: list[str]
    ) -> tuple[int, np.ndarray, Counter[str], str]:
        """Return a chunk's number and rows, how many of its texts were cut, and what went wrong."""
        import ray

        if function != self._function:
            self._compute, self._function = ray.get(packed[0]), function
        cache.truncated.clear()  # this process's count: the driver, where warnings are given, adds what is returned
        try:
            return chunk, np.asarray(self._compute(texts)), cache.truncated, ""
        except QkdError as mistake:  # as a value: Ray would wrap it beyond recognition, and try again
            return chunk, np.empty(0), cache.truncated, str(mistake)


def _nothing(texts: Sequence[str]) -> np.ndarray:
    return np.empty((len(texts), 0))


class _Crew:
    """The workers of a command: they start with the first chunks and stay, with the model that they have loaded."""

    def __init__(self) -> None:
        self._workers: list[Any] = []
        self._functions = 0

    def mapped(self, compute: cache.Compute, chunks: Sequence[list[str]]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(number of the chunk, its rows)`` as workers finish them."""
        import ray
        from ray.util import ActorPool

        wanted = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(chunks)))
        # one that dies is started again and does its chunk again, as often as that happens
        hired = ray.remote(max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD")(_Worker)
        self._workers += [hired.remote() for _ in range(wanted - len(self._workers))]
        self._functions += 1
        function, packed = self._functions, [ray.put(compute)]

        def asked(worker: Any, chunk: tuple[int, list[str]]) -> Any:
            return worker.run.remote(function, packed, *chunk)

        pool = ActorPool(self._workers[:wanted])
        for number, rows, cut, error in pool.map_unordered(asked, list(enumerate(chunks))):
            if error:
                raise QkdError(error)
            cache.truncated.update(cut)
            yield number, rows

    def dismiss(self) -> None:
        """End them."""
        import ray

        for worker in self._workers:
            ray.kill(worker)
