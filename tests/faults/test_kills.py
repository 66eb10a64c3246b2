"""Kills, full disks and second processes at every write of every command: the next command ends as if nothing happened.

Each write calls ``os.fsync`` before the file is renamed into place, and again on its folder, so calls of it are the
moments between which the disk changes.
"""

import errno
import json
import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.processes import at_call, qkd, start
from tests.test_distill import options

pytestmark = pytest.mark.faults
COUNT = max(1, int(8 * float(os.environ.get("QKD_FAULTS", "1"))))
"""Kills, and full disks, of each command."""
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
VOLATILE = {"seconds", "ms_per_text", "date", "report", "again", "command", "teach_seconds", "embed_seconds"}


def words_of(command, values):
    return [*command.split(), *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]


class Case:
    """A command in a folder of its own, and what it leaves."""

    def __init__(self, name, corpus, folder, run):
        self.name, self.folder = name, folder
        self.env = {**os.environ, "QKD_CACHE": str(folder / "cache"), "QKD_STATE": str(folder / "state")}
        given = options(corpus, folder / "runs", epochs=2, qubits=2) | {"name": "r"}
        if name == "distill":
            self.words = words_of("distill", given)
        elif name == "compare":
            given |= {"students": "hardware,linear,logreg", "seeds": 2, "epochs": 1}
            self.words = words_of("compare", given)
        elif name == "teach":
            keys = ("data", "text_column", "label_column", "teacher")
            self.words = words_of("teach --embed", {key: given[key] for key in keys} | {"encoder": "hashing:64"})
            self.words += ["--out", str(folder / "runs" / "out.parquet")]
        elif name == "export":
            shutil.copytree(run, folder / "runs" / "r")
            self.words = ["export", str(folder / "runs" / "r"), "--out", str(folder / "runs" / "out")]
        else:
            shutil.copytree(run, folder / "runs" / "r")
            self.words = words_of("run-hardware --local", {"run": folder / "runs" / "r", "device": "fake_manila"})
            self.words += ["--mitigation=none", "--samples=6", "--shots=64"]
        if name == "collect":
            at_call(*self.words, after="qkd.hardware.jobs:JobLoop._submit", times=1, then=signal.SIGKILL, env=self.env)
            self.words = words_of("jobs collect", {"run": folder / "runs" / "r"})

    def after(self):
        """The command that a person types after one that did not end."""
        if self.name == "distill" and (self.folder / "runs" / "r" / "config.toml").exists():
            return ["distill", "--resume", "--name=r", f"--runs={self.folder / 'runs'}"]
        if self.name == "run-hardware" and list(self.folder.glob("runs/r/hardware/*/result.json")):
            return words_of("jobs collect", {"run": self.folder / "runs" / "r"})  # the same words are another run
        return self.words

    def left(self):
        """Everything that the command made and that does not depend on the clock."""
        found = {}
        for path in sorted((self.folder / "runs").rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.suffix == ".part":
                found[name] = "left over"
            elif path.suffix in (".safetensors", ".qasm", ".parquet", ".png", ".npz"):
                found[name] = path.read_bytes()
            elif path.name in ("metrics.json", "comparison.json", "result.json"):
                found[name] = without_times(json.loads(path.read_text()))
            elif path.name in ("predictions.jsonl", "texts.jsonl"):
                found[name] = path.read_text()
            elif path.suffix in (".html", ".json", ".jsonl", ".toml", ".md"):
                found[name] = "is there"
        return found


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in VOLATILE}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A finished run, on which device runs are made."""
    folder = tmp_path_factory.mktemp("runs")
    qkd(*words_of("distill", options(corpus, folder, epochs=1, qubits=2) | {"name": "r"}), check=True)
    return folder / "r"


@pytest.fixture(params=["distill", "compare", "teach", "run-hardware", "collect", "export"])
def case(request, corpus, tmp_path, run):
    """Return a maker of cases, what the command leaves when nothing happens, and its number of calls."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        return Case(request.param, corpus, folder, run)

    whole, states = make("whole"), tmp_path / "states"
    keep = partial(copy_state, whole.folder, states)
    done = at_call(*whole.words, after="os:fsync", times=0, then=keep, env=whole.env)
    assert done.returncode == 0, done.stderr
    return make, whole, whole.left(), states


def copy_state(folder, states, number):
    """Keep what the disk has after call ``number``: a process killed there leaves the same."""
    shutil.copytree(folder, states / str(number), symlinks=True)


def check_recovered(faulty, expected, moment):
    """Run the next command and compare the files with those of an uninterrupted run."""
    done = qkd(*faulty.after(), env=faulty.env)
    if faulty.name == "run-hardware" and done.returncode == 0:  # it may have continued the plan that was there
        qkd("jobs", "collect", "--run", str(faulty.folder / "runs" / "r"), env=faulty.env, check=True)
    assert done.returncode == 0, (moment, done.stderr)
    assert faulty.left() == expected, moment


def test_every_state_of_the_disk(case):
    """Without a kill: one run visits every state that a kill can leave, and the next command starts from each."""
    _, whole, expected, states = case
    for number in range(1, 1 + len(list(states.iterdir()))):
        shutil.rmtree(whole.folder)
        shutil.copytree(states / str(number), whole.folder, symlinks=True)
        check_recovered(whole, expected, number)


def test_kills(case):
    make, _, expected, states = case
    calls = len(list(states.iterdir()))
    for number in range(COUNT):
        call = 1 + (number * calls // COUNT if calls >= COUNT else number % calls)
        killed = make(f"kill-{number}")
        ended = at_call(*killed.words, after="os:fsync", times=call, then=signal.SIGKILL, env=killed.env)
        assert ended.returncode == -signal.SIGKILL, (call, ended.stderr)
        check_recovered(killed, expected, call)
        shutil.rmtree(killed.folder)


def test_full_disks(case):
    make, _, expected, states = case
    calls = len(list(states.iterdir()))
    for number in range(COUNT):
        call = random.Random(number).randrange(1, calls + 1)
        full = make(f"full-{number}")
        ended = at_call(*full.words, after="os:fsync", times=call, then=FULL, env=full.env)
        assert ended.returncode in (0, 1), (call, ended.stderr)  # 0: only a folder's own list was not synchronized
        assert not ended.returncode or "disk is full" in ended.stderr, (call, ended.stderr)
        if ended.returncode:
            check_recovered(full, expected, call)
        shutil.rmtree(full.folder)


def test_two_processes(case):
    make, _, expected, _ = case
    for number in range(max(1, COUNT // 4)):
        both = make(f"both-{number}")
        outputs = [[both.folder / f"{name}{end}" for name in ("out", "err")] for end in "ab"]
        processes = [start(both.words, output, env=both.env) for output in outputs]
        for process in processes:
            process.join()
        codes, errors = [process.exitcode for process in processes], [Path(pair[1]).read_text() for pair in outputs]
        assert 0 in codes and set(codes) <= {0, 1}, (codes, errors)
        for code, error in zip(codes, errors, strict=True):
            assert code == 0 or "another qkd process" in error or "exists already" in error, error
        left = both.left()
        assert {name: left[name] for name in expected} == expected
        shutil.rmtree(both.folder)
