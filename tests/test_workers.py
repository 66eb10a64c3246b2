"""Work in processes of its own is the work that would be done here, in its order."""

import os

import numpy as np

from qkd.core.workers import parallel_map


def drawn(seed, count):
    return os.getpid(), np.random.default_rng(seed).normal(size=count)


def test_processes_change_nothing_but_where_the_work_is_done():
    tasks = [(seed, seed + 1) for seed in range(5)]
    here, there = list(parallel_map(drawn, tasks, 1)), list(parallel_map(drawn, tasks, 2))
    assert {process for process, _ in here} == {os.getpid()} and os.getpid() not in {process for process, _ in there}
    for (_, mine), (_, theirs) in zip(here, there, strict=True):
        np.testing.assert_array_equal(mine, theirs)
