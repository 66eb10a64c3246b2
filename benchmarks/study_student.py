"""The effect of each choice of the default student: one change at a time, on labeled texts, over seeds.

    python benchmarks/study_student.py TEXTS.jsonl[:LIMIT] ... [--teacher SPEC] [--seeds 5] [--only LINE] [--out FILE]

Every seed is another split and another initialization; all students of a seed see the same split and the same teacher.
A line is a change from the default student. It has the mean test accuracy for each file and the difference from the
default, with the half width of the 95 % t-interval of the seeds' paired differences. ``{name}`` and ``{seed}`` in the
teacher are replaced by a file's stem and the seed. Scores are from test splits of the given files alone. Each student
appends its scores to the file ``--out`` and is not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from qkd.circuits import library
from qkd.circuits.build import parse_observables
from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config, make_config
from qkd.core.runs import RunFolder
from qkd.core.specs import read_toml
from qkd.core.teacher_config import TeacherSpec
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.encoders.trainable import make_trainable
from qkd.experiments.candidates import recipe_file
from qkd.models.backbone import Backbone
from qkd.pipeline.inputs import Clock, choose_encoder, prepare_inputs
from qkd.simulation.factory import make_engine, torch_device
from qkd.simulation.start import with_start
from qkd.student import logreg
from qkd.student.cores import QuantumCore, make_control
from qkd.student.data import TrainingData
from qkd.student.trainer import make_fine_tuner, make_trainer

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
    "alpha 0.5": {"loss": {"alpha": 0.5}},
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
    "the paper's recipe, its vector": {"recipe": True, "encoder": "minilm?pooling=last"},
    "the paper's recipe, mean vector": {"recipe": True, "encoder": "minilm"},
    "--tune-encoder 2": {"tune": 2},
    "static:minilm": {"encoder": "static:minilm"},
    "static:minilm, --tune-encoder 1": {"encoder": "static:minilm", "tune": 1},
    "hashing": {"encoder": "hashing"},
    # Encoders of exports without torch. `--unlabeled` also makes their tables of more texts.
    "static:minilm?dim=256": {"encoder": "static:minilm?dim=256"},
    "static:minilm+hashing": {"encoder": "static:minilm+hashing"},
    "logreg on static:minilm": {"encoder": "static:minilm", "logreg": True},
    "model2vec": {"model2vec": True},
    "logreg on model2vec": {"model2vec": True, "logreg": True},
    "TF-IDF with logreg": {"tfidf": True},
}


def circuit_of(change: dict[str, Any]) -> StudentCircuit:
    """Return the circuit that a change asks for."""
    circuit = library.load_circuit(change.get("circuit", "hardware"), change.get("qubits"), change.get("layers"))
    if "observables" in change:
        words = [f"{letter}{q}" for letter in change["observables"] for q in range(circuit.num_qubits)]
        circuit = replace(circuit, observables=parse_observables(words, circuit.num_qubits))
    if "start" in change:
        return replace(circuit, start=(change["start"],) * len(circuit.inputs))
    return with_start(circuit)


def settings(change: dict[str, Any], seed: int) -> Config:
    """Return the settings of a change's student."""
    sections: dict[str, Any] = {"train": {}}
    if change.get("recipe"):
        recipe: dict[str, Any] = read_toml(recipe_file())
        sections = {name: dict(recipe[name]) for name in ("student", "loss", "train")}
    for name in ("train", "student", "loss"):
        sections[name] = {**sections.get(name, {}), **change.get(name, {})}
    sections["train"]["seed"] = seed
    return make_config({**sections, "engine": {"torch_device": "cpu"}})


def model2vec_embeddings(texts: Sequence[str]) -> np.ndarray:
    """Return embeddings (N,D) of texts by a table that model2vec distills from MiniLM; needs ``model2vec[distill]``."""
    from model2vec.distill import distill_from_model

    backbone = Backbone("minilm")
    table = distill_from_model(backbone.network, backbone.tokenizer)
    return np.asarray(table.encode(list(texts)), np.float32)


def tfidf_accuracy(data: TrainingData, texts: Sequence[str]) -> float:
    """Return the test accuracy of TF-IDF with a logistic regression whose strength the validation texts choose."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    parts = [data.labeled_train, data.valid, data.test]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([texts[row] for row in parts[0]])
    train, valid, test = (vectorizer.transform([texts[row] for row in rows]) for rows in parts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(train, data.targets[parts[0]]) for c in (1, 3, 10, 30, 100)]
    best = max(models, key=lambda model: model.score(valid, data.targets[data.valid]))
    return float(best.score(test, data.targets[data.test]))


def score(change: dict[str, Any], seed: int, data: TrainingData, encoder: Encoder, texts: Sequence[str]) -> list[float]:
    """Return test accuracy, training accuracy and CPU seconds of one student of N texts."""
    begun = time.process_time()
    test, train = data.test, data.train
    if change.get("tfidf"):
        return [tfidf_accuracy(data, texts), float("nan"), time.process_time() - begun]
    if change.get("logreg"):
        right = (logreg.fit_logreg(data)[0].argmax(axis=1) == data.targets[test]).mean()
        return [float(right), float("nan"), time.process_time() - begun]
    spec = settings(change, seed)
    circuit = circuit_of(change | ({"circuit": spec.student.circuit} if change.get("recipe") else {}))
    if "control" in change:
        core = make_control(change["control"], circuit, len(data.classes), spec.engine)
    else:
        core = QuantumCore(circuit, make_engine(spec.engine, circuit))
    trainer = make_trainer(spec, core, data, torch_device("cpu"), None)
    trainer.run()
    embeddings = data.embeddings
    if "tune" in change:
        front = make_trainable(encoder, texts, change["tune"])
        make_fine_tuner(spec, trainer.model, data, front, None).run()
        embeddings = front.embeddings()
    right = [
        float((trainer.model.logits(embeddings[rows]).argmax(axis=1) == data.targets[rows]).mean())
        for rows in (test, train)
    ]
    return [*right, time.process_time() - begun]


def main() -> None:
    """Do the study and print its table as it grows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--teacher", default=TeacherSpec().teacher)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--unlabeled", help="a file of texts that the teacher labels; {name} is replaced as in a teacher"
    )
    parser.add_argument("--only", action="append", help="a line, by its name; the default is always there")
    parser.add_argument("--out", type=Path, help="a JSONL file of every student's scores; a second call continues it")
    given = parser.parse_args()
    lines = [n for n in CHANGES if n == "default" or not given.only or n in given.only]
    kept: dict[tuple[str, str, int], list[float]] = {}
    if given.out and given.out.is_file():
        rows = [json.loads(row) for row in given.out.read_text().splitlines()]
        kept = {(row["line"], row["texts"], row["seed"]): row["score"] for row in rows}

    def note(line: str, name: str, seed: int, scores: list[float]) -> None:
        kept[line, name, seed] = scores
        row = json.dumps({"line": line, "texts": name, "seed": seed, "score": scores})
        print(row, flush=True)
        if given.out:
            with given.out.open("a") as file:
                file.write(row + "\n")

    for seed in range(given.seeds):
        for source in given.texts:
            path, _, limit = source.partition(":")
            name = Path(path).stem
            if all((line, name, seed) in kept for line in ["teacher", *lines]):
                continue
            teacher = given.teacher.format(name=name, seed=seed)
            asked_data = {"data": path, "split_seed": seed, "limit": int(limit) if limit else None}
            if given.unlabeled:
                asked_data["unlabeled"] = given.unlabeled.format(name=name)
            spec = make_config({"data": asked_data, "teacher": {"teacher": teacher}, "engine": {"torch_device": "cpu"}})
            with tempfile.TemporaryDirectory() as temporary:
                sources = prepare_inputs(spec, RunFolder(Path(temporary)), False, Clock())
            data = sources.data
            right = data.teacher_logits[data.test].argmax(axis=1) == data.targets[data.test]
            note("teacher", name, seed, [float(right.mean()), float("nan"), 0.0])
            for line in lines:
                if (line, name, seed) in kept:
                    continue
                change, seen, encoder = CHANGES[line], data, sources.encoder
                if "encoder" in change or "tune" in change:
                    asked = change.get("encoder", spec.encoder.encoder)
                    encoder, _ = choose_encoder(asked, spec, sources.corpus, "tune" in change)
                    seen = replace(data, embeddings=embed_texts(encoder, sources.corpus.texts))
                if "model2vec" in change:
                    seen = replace(data, embeddings=model2vec_embeddings(sources.corpus.texts))
                note(line, name, seed, score(change, seed, seen, encoder, sources.corpus.texts))
    found: dict[tuple[str, str], list[list[float]]] = {}
    for (line, name, seed), scores in sorted(kept.items()):
        if seed < given.seeds:
            found.setdefault((line, name), []).append(scores)
    names = [Path(source.partition(":")[0]).stem for source in given.texts]
    print("\n| change | " + " | ".join(names) + " | CPU s |\n| --- |" + " --- |" * (len(names) + 1))
    for line in ["teacher", *lines]:
        cells = []
        for name in names:
            rows = found[line, name]
            here = 100 * np.array([row[0] for row in rows])
            cell = f"{here.mean():.1f}"
            if line not in ("default", "teacher") and given.seeds > 1:
                gap = here - 100 * np.array([row[0] for row in found["default", name][: len(here)]])
                half = student_t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
                cell += f" ({gap.mean():+.1f} ± {half:.1f})"
            cells.append(cell)
        seconds = np.mean([row[2] for name in names for row in found[line, name]])
        print(f"| {line} | " + " | ".join(cells) + f" | {seconds:.1f} |")


if __name__ == "__main__":
    main()
