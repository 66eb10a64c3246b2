"""What a user asks for of a device run, and the texts that it is about."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qkd.core.errors import ConfigError, nearest
from qkd.core.files import Row
from qkd.core.runs import RunFolder
from qkd.hardware import budget as costs
from qkd.hardware.mitigation import NAMES

MODES = ("job", "batch", "session")
DECOUPLINGS = ("none", "XX", "XpXm", "XY4")


@dataclass(frozen=True)
class Order:
    """What a user asked for; None is the profile's choice or the run's.

    run: the run folder.
    device: where.
    local: on its snapshot.
    mitigation: a name, or ``all``.
    shots: a number, or ``auto``.
    target_stderr: the standard error wanted of expectation values, for shots ``auto``.
    samples: how many test texts, stratified by label; all when None.
    file: texts of one's own in place of the run's test texts.
    text_column: of that file.
    profile: the transpile profile.
    max_qpu_seconds: the limit.
    mode: job, batch or session.
    randomizations: twirls.
    decoupling: the sequence of pulses.
    twirl_gates: twirl gates whatever the mitigation.
    seed: of the choice of texts.
    client: let IBM's client simulate a rehearsal on AerSimulator.
    learned: a file of ``qkd devices learn`` whose errors are reckoned with, or ``none``; see ``recent``.
    """

    run: Path = Path("runs/latest")
    device: str | None = None
    local: bool = False
    mitigation: str | None = None
    shots: str | None = None
    target_stderr: float | None = None
    samples: int | None = None
    file: Path | None = None
    text_column: str = "text"
    profile: str | None = None
    max_qpu_seconds: float | None = None
    mode: str | None = None
    randomizations: int | None = None
    decoupling: str | None = None
    twirl_gates: bool = False
    seed: int = 0
    client: bool = False
    learned: str | None = None

    def __post_init__(self) -> None:
        """Refuse what fits no run, before anything is computed.

        Raises:
            QkdError: a word is none of those known, or a number is out of its range.
        """
        for option, word, known in (
            ("mitigation", self.mitigation, (*NAMES, "all")),
            ("mode", self.mode, MODES),
            ("decoupling", self.decoupling, DECOUPLINGS),
        ):
            if word is not None and word not in known:
                raise ConfigError(f"--{option} '{word}' is not known{nearest(word, known)}")
        for option, number, least in (
            ("samples", self.samples, 1),
            ("randomizations", self.randomizations, 1),
            ("max-qpu-seconds", self.max_qpu_seconds, 0),
        ):
            if number is not None and not least <= number < math.inf:
                raise ConfigError(f"--{option} {number} must be at least {least}")
        if self.shots is not None and self.shots != "auto" and not (self.shots.isdecimal() and int(self.shots) > 0):
            raise ConfigError(f"--shots {self.shots}: give a number of at least 1, or auto")
        if self.target_stderr is not None:
            if self.shots not in (None, "auto"):
                raise ConfigError("--shots and --target-stderr say the same thing twice; give one of them")
            costs.shots_at(self.target_stderr)


def order_fingerprint(order: Order, folder: RunFolder) -> str:
    """Return a hash of all that decides what an order measures: its settings, the student and the texts.

    Raises:
        QkdError: the texts cannot be read.
    """
    settings = {key: value for key, value in asdict(order).items() if key not in ("run", "max_qpu_seconds", "file")}
    student = (folder.student / "student.safetensors").read_bytes()
    texts = [row["text"] for row in texts_of(order, folder)]
    made = json.dumps([settings, hashlib.sha256(student).hexdigest(), texts], sort_keys=True, default=str)
    return hashlib.sha256(made.encode("utf-8", "surrogatepass")).hexdigest()


def texts_of(order: Order, folder: RunFolder) -> list[Row]:
    """Return the texts to classify, with label and teacher's logits where they are known."""
    if order.file is not None:
        from qkd.data.loading import load_texts

        rows = [{"text": text, "label": None, "teacher": None} for text in load_texts(order.file, order.text_column)]
    else:
        rows = [{key: row[key] for key in ("text", "label", "teacher")} for row in folder.rows(folder.predictions)]
    return [rows[i] for i in sample_of(rows, order)]


def sample_of(rows: list[Row], order: Order) -> list[int]:
    """Return the numbers of an order's samples, stratified by label; of all rows where it asks for no number."""
    if order.samples is None or order.samples >= len(rows):
        return list(range(len(rows)))
    random = np.random.default_rng(order.seed)
    groups: dict[Any, list[int]] = {}
    for i in random.permutation(len(rows)):
        groups.setdefault(rows[i]["label"], []).append(int(i))
    ranked = [(place / len(members), i) for members in groups.values() for place, i in enumerate(members)]
    return sorted(i for _, i in sorted(ranked)[: order.samples])
