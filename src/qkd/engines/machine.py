"""Settings of torch and of the C library: threads, devices, freed memory."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch

ENGINE_LOCK = threading.RLock()
"""Jobs are threads. They run one at a time, because random streams, cached programs and torch's thread count are
shared."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads inside the block; None changes nothing.

    On a core that is shared with other work, OpenMP's threads wait for one another at the end of every operation. A
    step of many small operations was measured to take fifty times as long on two threads as on one.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def device_called(name: str | None) -> torch.device:
    """Return the torch device called ``name``; None means ``cuda`` if torch sees one, else ``cpu``."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let the C library keep up to 256 MiB of freed memory, in the whole process from now on.

    By default glibc returns the states of a sweep to the system after every step and obtains them page by page in the
    next, which takes half of the time. No engine calls this function; a program that trains in a loop calls it once.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_TRIM_THRESHOLD, 2**28)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
