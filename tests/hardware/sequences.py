"""Seeded fault sequences of a device run on the strict service: kills, lost ledgers, copies, full disks.

``python -m tests.hardware.sequences FIRST LAST`` runs some and prints the outcomes.
"""

import collections
import errno
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import requests

from qkd import QkdError
from qkd.circuits import library
from qkd.core.console import log
from qkd.core.files import NotWritten
from qkd.devices import live, snapshot
from qkd.devices.transpile import transpile
from qkd.hardware.budget import Budget, Stage
from qkd.hardware.jobs import JobLoop
from qkd.hardware.ledger import Ledger
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.plan import Plan
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.service.base import RetryPolicy
from qkd.hardware.service.ibm import IBMService

from .clock import Clock
from .loopback import CRN
from .strict import OTHER, Strict

HOUR = 3600.0


class Killed(BaseException):
    """The process ends here."""


class Light(IBMService):
    """IBM's client with small jobs in the place of circuits: every request is the client's own."""

    def _submit(self, job, tags, layers):
        start, stop = self.plan.chunks[job]
        inputs = {"shape": [len(self.plan.terms.student.observables), stop - start]}
        options = {"backend": self.backend, "job_tags": tags}
        return str(self.client._run(program_id="executor", inputs=inputs, options=options).job_id())

    def _result(self, job, id_):
        told = json.loads(self._api.job_results(id_))
        return {name: np.asarray(told[name], dtype=float) for name in ("evs", "stds")}


class Mortal:
    """A provider whose process dies at its n-th call, before or after the call does its work."""

    def __init__(self, provider, left, after):
        self.inner, self.plan, self.left, self.after = provider, provider.plan, left, after

    def __getattr__(self, name):
        real = getattr(self.inner, name)

        def call(*arguments):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            value = real(*arguments)
            if self.left == 0:
                raise Killed
            return value

        return call


class Fragile(Ledger):
    """A ledger whose disk is full at its n-th line, or whose process dies there, with half a line written or none."""

    left, how, half = 0, None, False

    def append(self, plan, event, **facts):
        self.left -= 1
        if self.left == 0:
            if self.half:
                with self.path.open("ab") as file:
                    file.write(b'{"time": "2025-10-0')
            if self.how == "full":
                raise NotWritten(self.path, OSError(errno.ENOSPC, "No space left on device"))
            raise Killed
        super().append(plan, event, **facts)


class World:
    """A service, an account with two instances, and a plan to run again and again."""

    def __init__(self, plan, clock, folder):
        self.plan, self.clock, self.folder = plan, clock, folder
        self.service = Strict(clock)
        self.service.server.server_close()  # no socket is needed
        send = lambda adapter, request, **more: self.service.send(adapter, request, **more)  # noqa: E731
        self.patches = [
            mock.patch.dict(os.environ, self.service.environment | {"QISKIT_IBM_INSTANCE": CRN}),
            mock.patch.object(requests.adapters.HTTPAdapter, "send", send),
            mock.patch("requests.sessions.get_environ_proxies", lambda *_, **__: {}),  # a third of the time
            mock.patch("requests.sessions.get_netrc_auth", lambda *_, **__: None),
            mock.patch("os.fsync", lambda handle: None),
            mock.patch.object(log, "disabled", True),
        ]

    def __enter__(self):
        for patch in self.patches:
            patch.start()
        self.client = live.service(instance=CRN)
        self.backend = live.backend("ibm_manila", self.client)
        self.other = live.service(instance=OTHER)
        return self

    def __exit__(self, *_):
        for patch in reversed(self.patches):
            patch.stop()

    def sequence(self, seed):
        """Run one sequence and return its outcome as counts; zero of ``WRONG`` is wanted."""
        return _Sequence(self, seed).run()


WRONG = ("doubled", "lost", "locked", "left running", "uncaught", "sent under another instance")


class _Sequence:
    def __init__(self, world, seed):
        self.world, self.dice, self.seed = world, random.Random(seed), seed
        self.clock, self.service = world.clock, world.service
        dice = self.dice
        lag = dice.choice([0, 0, 5, 30, 120])
        chaos = dice.choice([0, 0.05, 0.15, 0.3])
        bad = dice.choice([0, 0, 0.2])
        self.service.reset(seed, chaos, lag, dice.choice([0, 60]), bad, dice.choice([20, 120, 900]))
        self.count = dice.randint(1, 4)
        chunks = tuple((2 * i, 2 * i + 2) for i in range(self.count))
        self.folder = world.folder / f"s{seed}"
        self.folders = {"A": self.folder / "A"}
        self.plan = world.plan.model_copy(update={"key": f"s{seed}", "chunks": chunks, "instance": CRN})
        self.told = collections.Counter()
        self.busy = []
        self.gone = self.count_gone = False
        self._plan("A").folder.mkdir(parents=True)
        self._ledger("A").append("hw-1", "planned", host="A", damaged=0)
        self.harmed = False

    def _plan(self, machine):
        return self.plan.model_copy(update={"folder": self.folders[machine] / "hw-1"})

    def _ledger(self, machine, kind=Ledger):
        return kind(self.folders[machine] / "ledger.jsonl", self.clock.now)

    def _policy(self, machine):
        def sleep(seconds):
            self.clock.sleep(seconds)
            if "B" in self.folders and len(self.busy) == 1 and self.dice.random() < 0.2:  # the other machine, meanwhile
                self._process("B" if machine == "A" else "A", wait=False)
                self.service.machine = machine

        return RetryPolicy(tries=4, sleep=sleep, now=self.clock.now)

    def _process(self, machine, wait=True, mortal=True, stop=False):
        """Let a process of one machine do its work, which may end in any way that a process can end."""
        if machine in self.busy:
            return None
        self.busy.append(machine)
        self.service.machine = machine
        dice = self.dice
        provider = Light(self._plan(machine), self.world.client, self.world.backend)
        ledger = self._ledger(machine, Fragile)
        if mortal and dice.random() < 0.5:
            provider = Mortal(provider, dice.randint(1, 25), dice.random() < 0.5)
        if mortal and dice.random() < 0.25:
            ledger.left, ledger.how, ledger.half = (
                dice.randint(1, 15),
                dice.choice(["full", "killed"]),
                dice.random() < 0.5,
            )
        try:
            loop = JobLoop(provider, ledger, self._policy(machine), machine)
            return loop.cancel() if stop else loop.run(wait)
        except Killed:
            self.told["kills"] += 1
        except QkdError:
            self.told["errors told"] += 1
        except Exception as error:
            self.told["uncaught"] += 1
            self.told[f"uncaught {type(error).__name__}: {str(error)[:200]}"] += 1
        finally:
            self.busy.remove(machine)
        return None

    def _step(self):
        dice = self.dice
        deed = dice.choices(
            ["drive", "glance", "wait", "delete", "damage", "copy", "other machine", "other instance", "gone"],
            [8, 4, 4, 0.8, 0.8, 0.7, 6, 0.5, 0.3],
        )[0]
        path = self.folders["A"] / "ledger.jsonl"
        if deed in ("drive", "glance"):
            self._process("A", wait=deed == "drive")
        elif deed == "wait":
            self.clock.sleep(dice.choice([1, 30, 300, 3000]))
        elif deed == "delete" and not self.gone:
            path.unlink(missing_ok=True)
            self.harmed = True
            self.told["ledgers deleted"] += 1
        elif deed == "damage" and path.is_file() and not self.gone:
            lines = path.read_bytes().split(b"\n")
            place = dice.randrange(len(lines))
            lines[place] = lines[place][: dice.randrange(len(lines[place]) + 1)] + b"\x00"
            path.write_bytes(b"\n".join(lines))
            self.harmed = True
            self.told["ledgers damaged"] += 1
        elif deed == "copy" and "B" not in self.folders and not self.gone:
            self._copy()
        elif deed == "other machine" and "B" in self.folders:
            self._process("B", wait=dice.random() < 0.5)
        elif deed == "other instance":
            self._other_instance()
        elif deed == "gone" and not self.harmed and "B" not in self.folders:
            for job in self.service.jobs:
                if job.status(self.clock.now()) in ("Completed", "Failed") and dice.random() < 0.3:
                    job.gone = self.gone = True
                    self.told["jobs gone"] += 1

    def _copy(self):
        """Copy the run folder to another machine, which continues the run too."""
        self.folders["B"] = self.folder / "B"
        shutil.copytree(self.folders["A"], self.folders["B"])
        self.told["folders copied"] += 1

    def _other_instance(self):
        """An account that is set to another instance is refused before anything is asked."""
        before = self.service.submissions
        chaos, self.service.chaos = self.service.chaos, 0.0
        try:
            live.require_instance(self.world.other, CRN, "hw-1")
            self.told["sent under another instance"] += 1
        except QkdError as error:
            self.told["sent under another instance"] += not (CRN in str(error) and OTHER in str(error))
        self.service.chaos = chaos
        self.told["sent under another instance"] += self.service.submissions - before

    def run(self):
        dice, service = self.dice, self.service
        if dice.random() < 0.2:
            self._copy()
        self._process("A", wait=dice.random() < 0.5)
        for _ in range(dice.randint(1, 12)):
            self._step()
        stopped = dice.random() < 0.25
        service.chaos = 0.0  # from here on the service answers
        if stopped:
            self.folders.pop("B", None)  # who cancels on one machine does not go on with a copy on another
            for _ in range(4):
                if self._process("A", mortal=False, stop=True) is not None:
                    break
            else:
                self.told["locked"] += 1
            ended = self.clock.now()
            self.clock.sleep(HOUR * 2)
            for job in service.jobs:  # a job of another machine that was not listed then could not be known
                known = job.machine == "A" or job.listed <= ended
                self.told["left running"] += known and job.ends > ended and job.cancelled is None
            self.told["cancelled"] += 1
        finished = [machine for machine in self.folders if self._finish(machine)]
        self.told["locked"] += len(self.folders) - len(finished)
        self._judge(stopped, finished)
        shutil.rmtree(self.folder)
        self.told |= {"sequences": 1, "jobs": self.count, "submissions": service.submissions}
        self.told |= {"faults": service.happened, "jobs whose submission had no answer": service.unanswered}
        return self.told

    def _finish(self, machine):
        """Go on until everything has ended; return whether it has."""
        for _ in range(4):
            records = self._process(machine, mortal=False)
            if records is not None and not any(record.open for record in records):
                if all(record.file for record in records):
                    return True
                self.clock.sleep(300)  # another machine's job may hold what is missing here, once it is listed
                return self._process(machine, mortal=False) is not None
            self.clock.sleep(60)
        return False

    def _judge(self, stopped, finished):
        jobs = self.service.jobs
        for number in range(self.count):
            ran = [job for job in jobs if job.number == number and job.cancelled is None]
            if len(ran) > 1:
                unknowable = any(job.unseen for job in ran)
                self.told["doubled, not knowable" if unknowable else "doubled"] += len(ran) - 1
            twice = [job for job in jobs if job.number == number and job.cancelled is not None]
            self.told["duplicates cancelled"] += len(twice) > 0 and len(ran) > 0
            good = [job for job in ran if job.fate == "Completed" and job.result in ("good", "some") and not job.gone]
            for machine in finished:
                record = self._ledger(machine).jobs("hw-1", self.count)[number]
                self.told["lost"] += bool(good) and record.file is None
                if record.file is not None:
                    self._plan(machine).read_arrays(record.file, record.sha256)
                    self.told["results saved"] += 1


def template():
    """Return a plan of a small untrained circuit, to be given a folder, a key and jobs."""
    held = snapshot.load_snapshot("fake_manila")
    student = transpile(library.load_circuit("hardware", qubits=4, layers=1), held)
    return Plan(
        folder=Path(),
        key="key",
        request=DeviceRunRequest(mitigation="none", shots=16),
        fingerprint="",
        device="ibm_manila",
        snapshot=held,
        version="",
        student=student,
        values=np.zeros((8, len(student.parameters))),
        mitigation=Mitigation("none", 16),
        mode="job",
        chunks=((0, 8),),
        budget=Budget((Stage("measure", "measuring", 1, 1),)),
        texts=[{"text": "a text", "label": None, "teacher": None}] * 8,
        limit=60.0,
    )


def main(first, last):
    """Run sequences, print the outcomes, and return whether all are correct."""
    total = collections.Counter()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder, World(template(), Clock(), Path(folder)) as world:
        for seed in range(first, last):
            told = world.sequence(seed)
            total.update(told)
            if any(told[word] for word in WRONG):
                print(seed, dict(told), flush=True)
            if (seed - first) % 500 == 499:
                print(f"{seed - first + 1} done: {dict(total)}", file=sys.stderr, flush=True)
    print(json.dumps(dict(sorted(total.items())) | {word: total[word] for word in WRONG}, indent=2))
    return not any(total[word] for word in WRONG)


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]), int(sys.argv[2])) else 1)
