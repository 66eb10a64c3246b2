"""Work spread over a Ray cluster (Ray Data; ``pip install qkd[ray]``).

The cache's chunks are the unit of work: the driver cuts them as it does alone and saves each as it comes back, so the
rows are those of one process, and a worker that dies costs the chunk it had. Workers get the function with a model's
name, not its weights, and load it themselves, once each.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from qkd import cache, workers
from qkd.errors import QkdError, ServiceError


@contextmanager
def over_ray(address: str) -> Iterator[None]:
    """Let every computation of rows inside this context run on a Ray cluster.

    Args:
        address: ``local`` for a cluster on this machine alone, else what ``ray.init`` takes.

    Raises:
        QkdError: Ray is not installed, or there is no cluster at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ServiceError("--ray needs Ray, which is not installed; 'pip install qkd[ray]' gets it")
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
    before = cache.mapper, workers.mapper
    cache.mapper, workers.mapper = _mapped, _tasks
    try:
        yield
    finally:
        cache.mapper, workers.mapper = before
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

    def tried(task: tuple[Any, ...]) -> tuple[Any, str]:
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
    """One worker: the function, unpacked once, applied to chunk after chunk."""

    def __init__(self, compute: Callable[[list[str]], np.ndarray]) -> None:
        self.compute = compute

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        error = ""
        cache.truncated.clear()  # this process's count: the driver, where warnings are given, adds what is returned
        try:
            rows = np.asarray(self.compute(list(batch["texts"][0])))
        except QkdError as mistake:  # as a value: Ray would wrap it beyond recognition, and try again
            rows, error = np.empty(0), str(mistake)
        return {
            "number": batch["number"],
            "error": np.array([error]),
            "truncated": np.array([json.dumps(cache.truncated)]),
            "rows": np.frombuffer(rows.tobytes(), np.uint8)[None],
            "shape": np.array([rows.shape]),
            "dtype": np.array([rows.dtype.str]),
        }


def _mapped(
    compute: Callable[[list[str]], np.ndarray], chunks: Sequence[list[str]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(number of the chunk, its rows)`` as workers finish them."""
    import ray
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(chunks)))
    items = [{"number": number, "texts": chunk} for number, chunk in enumerate(chunks)]
    results = data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_args=(compute,),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers),  # its workers are started again as often as they die
    )
    for row in results.iter_rows():
        if row["error"]:
            raise QkdError(row["error"])
        cache.truncated.update(json.loads(row["truncated"]))
        yield int(row["number"]), np.frombuffer(row["rows"].tobytes(), row["dtype"]).reshape(tuple(row["shape"]))
