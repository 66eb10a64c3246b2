"""Work in processes of its own is the work that would be done here, in its order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qkd.core.workers import parallel_map


def drawn(seed, count):
    return os.getpid(), np.random.default_rng(seed).normal(size=count)


def test_processes_change_nothing_but_where_the_work_is_done():
    tasks = [(seed, seed + 1) for seed in range(5)]
    here, there = list(parallel_map(drawn, tasks, 1)), list(parallel_map(drawn, tasks, 2))
    assert {process for process, _ in here} == {os.getpid()} and os.getpid() not in {process for process, _ in there}
    for (_, mine), (_, theirs) in zip(here, there, strict=True):
        np.testing.assert_array_equal(mine, theirs)


BUSY = (
    "import sys, os, time; from pathlib import Path\n"
    "from qkd.core.workers import parallel_map\n"
    "from tests.test_workers import busy\n"
    "list(parallel_map(busy, [(sys.argv[1],)] * 2, 2))\n"
)


def busy(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")
def test_workers_end_with_the_driver_that_was_killed(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(workers := list(tmp_path.iterdir())) < 2:
        time.sleep(0.1)
        assert driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while any(Path(f"/proc/{worker.name}").exists() for worker in workers):
        time.sleep(0.1)


def test_threads_in_the_place_of_workers_end_nothing():
    import joblib

    with joblib.parallel_backend("threading"):
        assert [process for process, _ in parallel_map(drawn, [(1, 1), (2, 1)], 2)] == [os.getpid()] * 2
