"""A plan: everything about one device run that is decided before anything is sent, kept in a folder of its own.

plan.json            device, version, mitigation, jobs, budget, circuit hash, layout
circuit.qasm         the compiled circuit with its observables, OpenQASM 3
values.safetensors   parameter values (N,A+P): texts, and behind them the points that mitigation is calibrated with
snapshot.json        the calibration it was compiled for
texts.jsonl          text, label or null, teacher's logits or null, one a line
job-0.safetensors    evs and stds (K,n) of a job, as they came
result.json          what was made of them
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core import records
from qkd.core.arrays import parse_arrays, read_arrays, write_arrays
from qkd.core.errors import FolderError
from qkd.core.files import MAX_ARRAY_BYTES, Row, read_bytes, read_lines, read_text, write_json, write_lines, write_text
from qkd.devices import snapshot as snapshots
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.hardware.budget import Budget
from qkd.hardware.mitigation import Mitigation

FORMAT = 1


MEND = "copy it again from a backup; its jobs' ids are in ledger.jsonl"


Purpose = Literal["predict", "learn"]


class PlanText(records.Record):
    """A line of ``texts.jsonl``.

    Attributes:
        text: The text.
        label: Its label; None for texts of the user without one.
        teacher: Logits (C,) of the teacher, if they are known.
    """

    text: str
    label: str | None = None
    teacher: tuple[float, ...] | None = None


class PlanRecord(records.Record):
    """What ``plan.json`` says that is read back."""

    key: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
    device: str
    local: bool
    version: str
    mitigation: Mitigation
    mode: Literal["job", "batch", "session"]
    chunks: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    budget: Budget
    limit: float
    client: bool
    instance: str | None = None
    asked: str
    purpose: Purpose
    circuit_sha256: str


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
    client: whether a rehearsal leaves the simulation to IBM's client.
    instance: the CRN of the service's instance under which it is sent, where that is known.
    asked: a hash of the order that it is made of.
    purpose: what it measures: texts, or circuits from which the device's errors are learned.
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
    texts: list[Row]
    limit: float
    client: bool = False
    instance: str | None = None
    asked: str = ""
    purpose: Purpose = "predict"

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

    @property
    def mark(self) -> str:
        """The tag of all its jobs, by which they are found again."""
        return f"qkd-{self.key}"

    def tag(self, job: int, attempt: int) -> str:
        """Return the tag of one attempt to send a job, unlike that of any other process's attempt."""
        return f"{self.mark}-{job}-{attempt}-{secrets.token_hex(3)}"

    def save(self) -> None:
        """Write the plan; ``plan.json`` comes last, so a folder that has it is whole."""
        program = to_qasm(self.student)
        write_text(self.folder / "circuit.qasm", program, private=True)
        arrays = {"values": np.ascontiguousarray(self.values)}
        write_arrays(self.folder / "values.safetensors", arrays, private=True)
        snapshots.write_snapshot(self.snapshot.calibration, self.folder / "snapshot.json")
        write_lines(self.folder / "texts.jsonl", self.texts)
        layout = self.student.layout  # a circuit that the run kept has none
        used = to_region(self.student, self.snapshot)[1].qubits
        record = {
            "format": FORMAT,
            "key": self.key,
            "device": self.device,
            "local": self.local,
            "version": self.version,
            "mitigation": asdict(self.mitigation),
            "mode": self.mode,
            "chunks": [list(chunk) for chunk in self.chunks],
            "budget": asdict(self.budget),
            "estimated": self.budget.seconds,
            "client": self.client,
            "limit": self.limit,
            "instance": self.instance,
            "asked": self.asked,
            "purpose": self.purpose,
            "circuit_sha256": hashlib.sha256(program.encode()).hexdigest(),
            "qubits": list(layout.initial_index_layout(filter_ancillas=True)) if layout is not None else list(used),
            "observables": [_terms(observable) for observable in self.student.observables],
        }
        write_json(self.folder / "plan.json", record, private=True)

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Return the plan in a folder.

        Raises:
            QkdError: there is none, or a file of it is missing or damaged.
        """
        record = records.read_record(folder / "plan.json", PlanRecord, MEND, (FORMAT,))
        program = read_text(folder / "circuit.qasm")
        try:
            if hashlib.sha256(program.encode()).hexdigest() != record.circuit_sha256:
                raise ValueError("circuit.qasm is not the circuit that was sent")
            values = read_arrays(folder / "values.safetensors")["values"]
            student = from_qasm(program, str(folder / "circuit.qasm"))
            lines = folder / "texts.jsonl"
            texts = [dict(records.checked(row, PlanText, lines, MEND)) for row in read_lines(lines)]
            if values.ndim != 2 or values.shape[1] != len(student.parameters):
                raise ValueError(f"values have the shape {values.shape}, not (N, {len(student.parameters)})")
            if len(values) < len(texts):
                raise ValueError(f"there are {len(texts)} texts and values of {len(values)}")
            if any(not 0 <= start < stop <= len(values) for start, stop in record.chunks):
                raise ValueError("a job has texts that are not there")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FolderError(f"{folder}: the plan is damaged ({error}); {MEND}") from None
        return cls(
            folder=folder,
            key=record.key,
            device=record.device,
            local=record.local,
            snapshot=snapshots.read_snapshot(folder / "snapshot.json"),
            version=record.version,
            student=student,
            values=values,
            mitigation=record.mitigation,
            mode=record.mode,
            chunks=record.chunks,
            budget=record.budget,
            texts=texts,
            limit=record.limit,
            client=record.client,
            instance=record.instance,
            asked=record.asked,
            purpose=record.purpose,
        )

    def write_arrays(self, name: str, **arrays: np.ndarray) -> str:
        """Write arrays as ``NAME.safetensors`` and return the file's hash."""
        data = write_arrays(self.folder / f"{name}.safetensors", arrays, private=True)
        return hashlib.sha256(data).hexdigest()

    def read_arrays(self, file: str, sha256: str | None) -> dict[str, np.ndarray]:
        """Return the arrays of a file that ``write_arrays`` wrote.

        Raises:
            QkdError: it is missing, or not what was written.
        """
        path = self.folder / file
        try:
            data = read_bytes(path, MAX_ARRAY_BYTES)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError("its hash is another")
            return parse_arrays(data, path)
        except ValueError as error:
            raise FolderError(
                f"{path}: what the job measured is damaged ({error}); copy it again from a backup"
            ) from None


def _terms(observable: SparsePauliOp) -> list[tuple[str, float]]:
    """Return an observable's Pauli strings and real coefficients, for JSON."""
    return [(label, float(value.real)) for label, value in observable.to_list()]


def plans(folder: Path) -> list[Path]:
    """Return the folders of a run's plans, oldest first."""
    folders = [path.parent for path in folder.glob("hw-*/plan.json") if _number(path.parent) is not None]
    return sorted(folders, key=lambda path: _number(path) or 0)


def new_folder(folder: Path, further: int = 0) -> Path:
    """Return the folder of the next plan, ``hw-N``, or of one ``further`` behind it."""
    numbers = [_number(path) or 0 for path in folder.glob("hw-*")]
    return folder / f"hw-{max(numbers, default=0) + 1 + further}"


def _number(folder: Path) -> int | None:
    """Return N of ``hw-N``; None for a folder that is no plan's, such as a backup."""
    digits = folder.name.removeprefix("hw-")
    return int(digits) if digits.isdecimal() and digits.isascii() else None
