"""How many threads torch takes for a piece of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch take ``count`` threads inside the block, or as many as it would where that is None.

    Where a core is shared with other work, OpenMP's threads wait for one another at the end of every operation; a step
    of many small operations was seen to take fifty times as long on two threads as on one.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
