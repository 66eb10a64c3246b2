"""A plan: everything about one device run that is decided before anything is sent, kept in a folder of its own.

plan.json            device, version, mitigation, jobs, budget, circuit hash, layout
circuit.qasm         the compiled circuit with its observables, OpenQASM 3
values.safetensors   parameter values (N,A+P): texts, and behind them the points that mitigation is calibrated with
earlier.safetensors  in a later round: what the rounds before measured
snapshot.json        the calibration it was compiled for
texts.jsonl          text, label or null, teacher's logits or null, one a line
job-0.safetensors    evs and stds (K,n) of a job, as they came
result.json          what was made of them
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from qiskit.quantum_info import SparsePauliOp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.devices import snapshot as snapshots
from qkd.devices.snapshot import Snapshot
from qkd.errors import QkdError
from qkd.hardware.budget import Budget, Stage
from qkd.hardware.mitigation import Mitigation
from qkd.runs import read_json, read_lines, write_json, write_lines, write_text, write_with

FORMAT = 1


@dataclass(frozen=True)
class Earlier:
    """What the rounds before this one measured, for runs whose shots are adaptive.

    of: the plan before.
    points: which points this plan measures (n,), numbers of rows of ``values``.
    values: of all points (T,A+P).
    evs, stds, shots: so far (T,K), (T,K), (T,).
    """

    of: str
    points: np.ndarray
    values: np.ndarray
    evs: np.ndarray
    stds: np.ndarray
    shots: np.ndarray


@dataclass(frozen=True)
class Plan:
    """One device run.

    folder: where it is kept; its name is the plan's.
    key: a random word that makes its jobs' tags unlike any other's.
    device: the name circuits are sent to.
    local: whether that is the snapshot.
    snapshot: what it was compiled for.
    version: the backend's, X.Y.Z.
    student: compiled, on the device's indices.
    values: (N,A+P).
    mitigation: what is done against errors.
    mode: job, batch or session.
    chunks: the texts of each job, (start, stop).
    budget: what it was estimated to cost.
    texts: rows of text, label and teacher's logits.
    limit: seconds of the QPU above which it is refused, and at which the service stops its jobs.
    rounds: the shots of the rounds that may follow, for texts that are not clear; see ``adaptive``.
    earlier: what the rounds before it measured.
    client: whether a rehearsal leaves the simulation to IBM's client.
    """

    folder: Path
    key: str
    device: str
    local: bool
    snapshot: Snapshot
    version: str
    student: StudentCircuit
    values: np.ndarray
    mitigation: Mitigation
    mode: str
    chunks: tuple[tuple[int, int], ...]
    budget: Budget
    texts: list[dict[str, Any]]
    limit: float
    rounds: tuple[int, ...] = ()
    earlier: Earlier | None = None
    client: bool = False

    @property
    def name(self) -> str:
        """The plan's name, ``hw-1``."""
        return self.folder.name

    @cached_property
    def learns(self) -> bool:
        """Whether its first job learns the layers' noise."""
        return self.mitigation.learned and not self.local

    @property
    def jobs(self) -> int:
        """How many jobs it has; the one that learns noise, if any, is the last by number and the first to run."""
        return len(self.chunks) + self.learns

    def most_seconds(self, job: int) -> int:
        """Return the seconds of the QPU after which the service is to stop a job: its texts' share of the limit."""
        if job >= len(self.chunks):
            return math.ceil(self.limit)
        start, stop = self.chunks[job]
        return max(1, math.ceil(self.limit * (stop - start) / len(self.values)))

    def tag(self, job: int, attempt: int) -> str:
        """Return the tag of a job's attempt, by which it is found again."""
        return f"qkd-{self.key}-{job}-{attempt}"

    def save(self) -> None:
        """Write the plan; ``plan.json`` comes last, so a folder that has it is whole."""
        program = to_qasm(self.student)
        write_text(self.folder / "circuit.qasm", program, private=True)
        arrays = {"values": np.ascontiguousarray(self.values)}
        write_with(self.folder / "values.safetensors", lambda part: save_file(arrays, part), private=True)
        if self.earlier is not None:
            held = {key: np.ascontiguousarray(one) for key, one in vars(self.earlier).items() if key != "of"}
            write_with(self.folder / "earlier.safetensors", lambda part: save_file(held, part), private=True)
        snapshots.write(self.snapshot.calibration, self.folder / "snapshot.json")
        write_lines(self.folder / "texts.jsonl", self.texts)
        layout = self.student.layout
        told = {
            "format": FORMAT,
            "key": self.key,
            "device": self.device,
            "local": self.local,
            "version": self.version,
            "mitigation": asdict(self.mitigation),
            "mode": self.mode,
            "chunks": [list(chunk) for chunk in self.chunks],
            "budget": asdict(self.budget),
            "estimated": self.budget.own_seconds,
            "rounds": list(self.rounds),
            "earlier": None if self.earlier is None else self.earlier.of,
            "client": self.client,
            "limit": self.limit,
            "circuit_sha256": hashlib.sha256(program.encode()).hexdigest(),
            "qubits": list(layout.initial_index_layout(filter_ancillas=True)) if layout is not None else [],
            "observables": [_terms(one) for one in self.student.observables],
        }
        write_json(self.folder / "plan.json", told, private=True)

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Return the plan in a folder.

        Raises:
            QkdError: there is none, or a file of it is missing or damaged.
        """
        told = read_json(folder / "plan.json")
        if told.get("format") != FORMAT:
            raise QkdError(f"{folder}: plan format {told.get('format')} is not {FORMAT}; use the qkd that wrote it")
        try:
            program = (folder / "circuit.qasm").read_text(encoding="utf-8")
            if hashlib.sha256(program.encode()).hexdigest() != told["circuit_sha256"]:
                raise ValueError("circuit.qasm is not the circuit that was sent")
            budget = told["budget"]
            stages = {key: tuple(Stage(**one) for one in budget.get(key, ())) for key in ("stages", "ahead")}
            estimated = Budget(**budget | stages)
            earlier = None
            if told.get("earlier"):
                earlier = Earlier(told["earlier"], **load_file(folder / "earlier.safetensors"))
            return cls(
                folder=folder,
                key=told["key"],
                device=told["device"],
                local=told["local"],
                snapshot=snapshots.read(folder / "snapshot.json"),
                version=told["version"],
                student=from_qasm(program, str(folder / "circuit.qasm")),
                values=load_file(folder / "values.safetensors")["values"],
                mitigation=Mitigation(**told["mitigation"]),
                mode=told["mode"],
                chunks=tuple((start, stop) for start, stop in told["chunks"]),
                budget=estimated,
                texts=read_lines(folder / "texts.jsonl"),
                limit=told.get("limit", estimated.seconds),
                rounds=tuple(told.get("rounds", ())),
                earlier=earlier,
                client=told.get("client", True),
            )
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise QkdError(f"{folder}: the plan is damaged ({error}); its jobs' ids are in ledger.jsonl") from None

    def keep(self, name: str, **arrays: np.ndarray) -> str:
        """Write arrays as ``NAME.safetensors`` and return the file's hash."""
        path, ready = self.folder / f"{name}.safetensors", {key: np.ascontiguousarray(a) for key, a in arrays.items()}
        write_with(path, lambda part: save_file(ready, part), private=True)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def kept(self, file: str, sha256: str | None) -> dict[str, np.ndarray]:
        """Return the arrays of a file that ``keep`` wrote.

        Raises:
            QkdError: it is missing, or not what was written.
        """
        path = self.folder / file
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                raise ValueError("its hash is another")
            arrays: dict[str, np.ndarray] = load_file(path)
            return arrays
        except (OSError, ValueError, SafetensorError) as error:
            raise QkdError(f"{path}: what the job measured is damaged ({error}); copy it again from a backup") from None


def _terms(observable: SparsePauliOp) -> list[tuple[str, float]]:
    """Return an observable's Pauli strings and real coefficients, for JSON."""
    return [(label, float(value.real)) for label, value in observable.to_list()]


def plans(folder: Path) -> list[Path]:
    """Return the folders of a run's plans, oldest first."""
    found = [path.parent for path in folder.glob("hw-*/plan.json") if _number(path.parent) is not None]
    return sorted(found, key=lambda path: _number(path) or 0)


def new_folder(folder: Path, further: int = 0) -> Path:
    """Return the folder of the next plan, ``hw-N``, or of one ``further`` behind it."""
    numbers = [_number(path) or 0 for path in folder.glob("hw-*")]
    return folder / f"hw-{max(numbers, default=0) + 1 + further}"


def _number(folder: Path) -> int | None:
    """Return N of ``hw-N``; None for a folder that is no plan's, such as a backup."""
    digits = folder.name.removeprefix("hw-")
    return int(digits) if digits.isdecimal() and digits.isascii() else None
