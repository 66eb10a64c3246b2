"""What each choice behind the default student is worth: one thing changed at a time, on labelled texts, over seeds.

    python benchmarks/study_student.py TEXTS.jsonl[:LIMIT] ... [--teacher SPEC] [--seeds 5] [--only WORD]

Every seed is another split and another initialisation; all students of a seed see the same split and the same teacher.
A line is a change from the default student: its mean test accuracy for each file, and behind it the difference from the
default with the half width of the 95 % t-interval of the seeds' paired differences. ``{name}`` and ``{seed}`` in the
teacher stand for a file's stem and the seed. Nothing outside the files' own test splits is looked at.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from qkd import config
from qkd.circuits import library
from qkd.circuits.observables import parse
from qkd.circuits.student import StudentCircuit
from qkd.runs import RunFolder
from qkd.simulation.make import make_engine, torch_device
from qkd.simulation.response import started
from qkd.sources import Clock, gather
from qkd.student import logreg
from qkd.student.lesson import Lesson, make_trainer
from qkd.student.middles.make import make_control
from qkd.student.middles.quantum import QuantumMiddle
from qkd.text.encoders.make import embed, make_encoder

CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "starts at 0": {"start": 0.0},
    "encoder: last layer": {"encoder": "minilm"},
    "encoder: layer 4": {"encoder": "minilm?layers=4"},
    "encoder: layers 4,6": {"encoder": "minilm?layers=4,6"},
    "encoder: layers 3,4,5,6": {"encoder": "minilm?layers=3,4,5,6"},
    "lr x 1/4": {"train": {"lr": 0.00125}},
    "lr x 4": {"train": {"lr": 0.02}},
    "batch 32": {"train": {"batch_size": 32}},
    "batch 128": {"train": {"batch_size": 128}},
    "decay 0.3": {"train": {"weight_decay": 0.3}},
    "dropout 0.2": {"student": {"dropout": 0.2}},
    "dropout 0.7": {"student": {"dropout": 0.7}},
    "alpha 0.01": {"loss": {"alpha": 0.01}},
    "alpha 0.2": {"loss": {"alpha": 0.2}},
    "alpha 0.8": {"loss": {"alpha": 0.8}},
    "temperature 1": {"loss": {"temperature": 1.0}},
    "temperature 4": {"loss": {"temperature": 4.0}},
    "1 layer": {"layers": 1},
    "4 qubits": {"qubits": 4},
    "X and Z read": {"observables": ("X", "Z")},
    "reupload": {"circuit": "reupload"},
    "product": {"circuit": "product"},
    "linear": {"control": "linear"},
    "mlp": {"control": "mlp"},
    "mlp, lr x 1/4": {"control": "mlp", "train": {"lr": 0.00125}},
    "linear, lr x 1/4": {"control": "linear", "train": {"lr": 0.00125}},
    "logreg": {"logreg": True},
}


def circuit_of(change: dict[str, Any]) -> StudentCircuit:
    """Return the circuit that a change asks for."""
    circuit = library.load(change.get("circuit", "hardware"), change.get("qubits"), change.get("layers"))
    if "observables" in change:
        words = [f"{letter}{q}" for letter in change["observables"] for q in range(circuit.num_qubits)]
        circuit = replace(circuit, observables=parse(words, circuit.num_qubits))
    if "start" in change:
        return replace(circuit, start=(change["start"],) * len(circuit.inputs))
    return started(circuit)


def score(change: dict[str, Any], seed: int, lesson: Lesson) -> tuple[float, float, float]:
    """Return test accuracy, training accuracy and CPU seconds of one student."""
    begun = time.process_time()
    test, train = lesson.test, lesson.train
    if change.get("logreg"):
        right = (logreg.fit(lesson)[0].argmax(axis=1) == lesson.targets[test]).mean()
        return float(right), float("nan"), time.process_time() - begun
    sections = {name: change.get(name, {}) for name in ("train", "student", "loss")}
    sections["train"] = {**sections["train"], "seed": seed}
    spec = config.make({**sections, "engine": {"torch_device": "cpu"}})
    circuit = circuit_of(change)
    if "control" in change:
        middle = make_control(change["control"], circuit, len(lesson.classes), spec.engine)
    else:
        middle = QuantumMiddle(circuit, make_engine(spec.engine, circuit))
    trainer = make_trainer(spec, middle, lesson, torch_device("cpu"), None)
    trainer.run()
    right = [
        float((trainer.student.logits(lesson.embeddings[rows]).argmax(axis=1) == lesson.targets[rows]).mean())
        for rows in (test, train)
    ]
    return right[0], right[1], time.process_time() - begun


def main() -> None:
    """Do the study and print its table as it grows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--teacher", default=config.TeacherSpec().spec[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a line, by its name; the default is always there")
    given = parser.parse_args()
    lines = [n for n in CHANGES if n == "default" or not given.only or n in given.only]
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for source in given.texts:
        path, _, limit = source.partition(":")
        name = Path(path).stem
        for seed in range(given.seeds):
            teacher = given.teacher.format(name=name, seed=seed)
            data = {"source": path, "split_seed": seed, "limit": int(limit) if limit else None}
            spec = config.make({"data": data, "teacher": {"spec": teacher}, "engine": {"torch_device": "cpu"}})
            with tempfile.TemporaryDirectory() as temporary:
                sources = gather(spec, RunFolder(Path(temporary)), False, Clock())
            lesson = sources.lesson()
            right = sources.logits[lesson.test].argmax(axis=1) == lesson.targets[lesson.test]
            found.setdefault(("teacher", name), []).append((float(right.mean()), float("nan"), 0.0))
            for line in lines:
                change, seen = CHANGES[line], lesson
                if "encoder" in change:
                    seen = replace(lesson, embeddings=embed(make_encoder(change["encoder"], "cpu"), sources.texts))
                found.setdefault((line, name), []).append(score(change, seed, seen))
                print(f"{name} {seed} {line}: {found[line, name][-1]}", flush=True)
    names = [Path(source.partition(":")[0]).stem for source in given.texts]
    print("\n| change | " + " | ".join(names) + " | CPU s |\n| --- |" + " --- |" * (len(names) + 1))
    for line in ["teacher", *lines]:
        cells = []
        for name in names:
            here = 100 * np.array([row[0] for row in found[line, name]])
            cell = f"{here.mean():.1f}"
            if line not in ("default", "teacher") and given.seeds > 1:
                gap = here - 100 * np.array([row[0] for row in found["default", name]])
                half = student_t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
                cell += f" ({gap.mean():+.1f} ± {half:.1f})"
            cells.append(cell)
        seconds = np.mean([row[2] for name in names for row in found[line, name]])
        print(f"| {line} | " + " | ".join(cells) + f" | {seconds:.1f} |")


if __name__ == "__main__":
    main()
