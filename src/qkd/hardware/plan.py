"""A plan: everything about one device run that is decided before anything is submitted, in a folder of its own.

plan.json            the request, device, version, mitigation, jobs, budget, circuit hash, layout
circuit.qasm         the compiled circuit with its observables, OpenQASM 3
values.safetensors   parameter values (M,A+P): the texts', then those of calibration points
snapshot.json        the calibration that the circuit was compiled for
texts.jsonl          text, label or null, teacher logits or null, one object a line
job-0.safetensors    raw evs and stds (T,n) of a job
result.json          the result
"""

from __future__ import annotations

import hashlib
import math
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, InstanceOf

from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core import records
from qkd.core.arrays import parse_arrays, read_arrays, write_arrays
from qkd.core.errors import FolderError
from qkd.core.files import (
    MAX_ARRAY_BYTES,
    Row,
    read_bytes,
    read_json,
    read_lines,
    read_text,
    write_json,
    write_lines,
    write_text,
)
from qkd.devices import snapshot as snapshots
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.hardware.budget import Budget
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.request import DeviceRunRequest, LearningRequest, Mode
from qkd.hardware.terms import Terms

FORMAT = 2
RESTORE = "restore it from a backup; the ids of its jobs are in ledger.jsonl"


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


class Plan(records.Record):
    """One device run. ``save`` and ``load`` keep it in its folder; ``plan.json`` holds the fields that are JSON.

    Attributes:
        folder: The plan's folder; its name is the plan's name.
        key: Random word that makes the tags of its jobs unique.
        request: The user's request.
        fingerprint: Hash of everything that decides what the request measures.
        device: Name of the device that circuits are submitted to.
        version: The device's version X.Y.Z.
        instance: CRN of the service's instance, or None if unknown.
        service: The service that runs the jobs: IBM Quantum, a snapshot, or a backend of the user.
        mitigation: The mitigation.
        mode: How jobs are submitted.
        chunks: Points of each job, (start, stop).
        budget: Estimated cost.
        limit: QPU seconds above which the run is refused, and at which the service stops its jobs.
        snapshot: The calibration that the circuit was compiled for.
        student: The compiled circuit, on the device's indices.
        values: Parameter values (M,A+P).
        texts: Rows of text, label and teacher logits; empty if the request is to learn errors.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    folder: Path = Field(exclude=True)
    key: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
    request: Annotated[DeviceRunRequest | LearningRequest, Field(discriminator="kind")]
    fingerprint: str
    device: str
    version: str
    instance: str | None = None
    service: Literal["ibm", "local", "backend"] = "ibm"
    mitigation: Mitigation
    mode: Mode
    chunks: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    budget: Budget
    limit: float
    snapshot: InstanceOf[Snapshot] = Field(exclude=True)
    student: InstanceOf[StudentCircuit] = Field(exclude=True)
    values: InstanceOf[np.ndarray] = Field(exclude=True)
    texts: list[Row] = Field(exclude=True)

    @property
    def name(self) -> str:
        """The plan's name, ``hw-1``."""
        return self.folder.name

    @property
    def local(self) -> bool:
        """True if the plan runs on a snapshot."""
        return self.service == "local"

    @property
    def immediate(self) -> bool:
        """True if a job runs when it is fetched, so that no service lists it."""
        return self.service != "ibm"

    @property
    def place(self) -> str:
        """The name of the device or snapshot on which it runs."""
        return self.snapshot.name if self.local else self.device

    @cached_property
    def terms(self) -> Terms:
        """The Pauli terms that the plan measures."""
        return Terms.from_student(self.student)

    @property
    def learns_layers(self) -> bool:
        """True if its first job learns the layers' noise."""
        return self.mitigation.method.needs_layer_noise and not self.immediate

    @property
    def jobs(self) -> int:
        """Number of jobs. A job that learns the layers' noise has the last number and runs first."""
        return len(self.chunks) + self.learns_layers

    def max_seconds(self, job: int) -> int:
        """Return the QPU seconds after which the service is to stop a job: its points' share of the limit."""
        if job >= len(self.chunks):
            return math.ceil(self.limit)
        start, stop = self.chunks[job]
        return max(1, math.ceil(self.limit * (stop - start) / len(self.values)))

    @property
    def mark(self) -> str:
        """The tag of all its jobs."""
        return f"qkd-{self.key}"

    def tag(self, job: int, attempt: int) -> str:
        """Return the tag of one submission of a job, unlike that of any other process."""
        return f"{self.mark}-{job}-{attempt}-{secrets.token_hex(3)}"

    def save(self) -> None:
        """Write the plan; ``plan.json`` comes last, so a folder that has it is complete."""
        program = to_qasm(self.student)
        write_text(self.folder / "circuit.qasm", program)
        arrays = {"values": np.ascontiguousarray(self.values)}
        write_arrays(self.folder / "values.safetensors", arrays)
        snapshots.write_snapshot(self.snapshot.calibration, self.folder / "snapshot.json")
        write_lines(self.folder / "texts.jsonl", self.texts, private=True)
        layout = self.student.layout  # a circuit kept by the run has none
        qubits = to_region(self.student, self.snapshot)[1].qubits
        if layout is not None:
            qubits = tuple(layout.initial_index_layout(filter_ancillas=True))
        facts: dict[str, Any] = {
            "format": FORMAT,
            "circuit_sha256": hashlib.sha256(program.encode()).hexdigest(),
            "qubits": list(qubits),
            "observables": [
                [(label, float(value.real)) for label, value in observable.to_list()]
                for observable in self.student.observables
            ],
        }
        write_json(self.folder / "plan.json", self.model_dump(mode="json") | facts, private=True)

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Return the plan in a folder.

        Raises:
            FolderError: There is none, or a file of it is missing or damaged.
        """
        record = read_json(folder / "plan.json")
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise FolderError(f"{folder / 'plan.json'}: not a plan of this version of qkd; {RESTORE}")
        program = read_text(folder / "circuit.qasm")
        try:
            if hashlib.sha256(program.encode()).hexdigest() != record.get("circuit_sha256"):
                raise ValueError("circuit.qasm is not the circuit that was submitted")
            values = read_arrays(folder / "values.safetensors")["values"]
            student = from_qasm(program, str(folder / "circuit.qasm"))
            if values.ndim != 2 or values.shape[1] != len(student.parameters):
                raise ValueError(f"values have the shape {values.shape}, not (M, {len(student.parameters)})")
        except (KeyError, TypeError, ValueError) as error:
            raise FolderError(f"{folder}: the plan is damaged ({error}); {RESTORE}") from None
        lines = folder / "texts.jsonl"
        parts = {
            "folder": folder,
            "snapshot": snapshots.read_snapshot(folder / "snapshot.json"),
            "student": student,
            "values": values,
            "texts": [dict(records.checked(row, PlanText, lines, RESTORE)) for row in read_lines(lines)],
        }
        plan = records.checked(record | parts, cls, folder / "plan.json", RESTORE)
        if len(values) < len(plan.texts) or not _partition(plan.chunks, len(values)):
            raise FolderError(f"{folder}: the plan is damaged (jobs, texts and values do not fit); {RESTORE}")
        return plan

    def write_arrays(self, name: str, **arrays: np.ndarray) -> str:
        """Write arrays as ``NAME.safetensors`` and return the file's hash."""
        data = write_arrays(self.folder / f"{name}.safetensors", arrays)
        return hashlib.sha256(data).hexdigest()

    def read_arrays(self, file: str, sha256: str | None) -> dict[str, np.ndarray]:
        """Return the arrays of a file that ``write_arrays`` wrote.

        Raises:
            FolderError: It is missing, or is not the file that was written.
        """
        path = self.folder / file
        try:
            data = read_bytes(path, MAX_ARRAY_BYTES)
            if path.parent != self.folder or hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError("its hash differs from the ledger's")
            return parse_arrays(data, path)
        except ValueError as error:
            raise FolderError(f"{path}: the job's result is damaged ({error}); restore it from a backup") from None


def _partition(chunks: tuple[tuple[int, int], ...], count: int) -> bool:
    """Return whether every chunk lies among ``count`` points."""
    return all(0 <= start < stop <= count for start, stop in chunks)


def list_plans(folder: Path) -> list[Path]:
    """Return the folders of a run's plans, the oldest first."""
    folders = [path.parent for path in folder.glob("hw-*/plan.json") if _number(path.parent) is not None]
    return sorted(folders, key=lambda path: _number(path) or 0)


def new_folder(folder: Path, offset: int = 0) -> Path:
    """Return the folder of the next plan, ``hw-N``; ``offset`` counts plans that are made at the same time."""
    numbers = [_number(path) or 0 for path in folder.glob("hw-*")]
    return folder / f"hw-{max(numbers, default=0) + 1 + offset}"


def _number(folder: Path) -> int | None:
    """Return N of ``hw-N``; None for another folder, such as a backup."""
    digits = folder.name.removeprefix("hw-")
    return int(digits) if digits.isdecimal() and digits.isascii() else None
