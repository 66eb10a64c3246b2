"""Work spread over the cores, in processes of their own: Aer keeps the interpreter to itself while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

mapper: Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]] | None = None
"""What does tasks elsewhere, in order; ``cluster.over_ray`` puts it here."""


def parallel_map(
    function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], processes: int | None = None
) -> Iterator[T]:
    """Yield ``function(*task)`` of each task, in order.

    Args:
        function: of a module; what it takes and returns is pickled. Its random numbers must be seeded by the task, so
            that the number of processes changes nothing.
        tasks: the arguments.
        processes: how many work at once; one for each core when left out. One, or one task, runs right here.
    """
    if mapper is not None:
        yield from mapper(function, tasks)
        return
    import joblib

    count = min(processes or joblib.cpu_count(), len(tasks))
    if count <= 1:
        yield from (function(*task) for task in tasks)
        return
    yield from joblib.Parallel(n_jobs=count, return_as="generator")(joblib.delayed(function)(*task) for task in tasks)
