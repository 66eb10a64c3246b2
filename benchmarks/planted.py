"""Whether a verdict goes both ways: labels that a circuit computed, and labels of a line.

Run it: python benchmarks/planted.py
"""

import argparse
import json

from qkd.core.config import make_config
from qkd.experiments.candidates import make_candidates
from qkd.experiments.planted import planted, planted_verdict

STUDENT = {"circuit": "hardware", "qubits": 3, "layers": 1, "dropout": 0.0}
TRAIN = {"lr": 0.03, "epochs": 60, "patience": 15, "weight_decay": 0.0}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--students", default="hardware,linear,mlp,logreg")
    asked = parser.parse_args()
    students = make_candidates(asked.students.split(","), make_config({"student": STUDENT, "train": TRAIN}))
    for kind in ("circuit", "linear"):
        found = planted_verdict(students, planted(kind, students[0].circuit()), asked.seeds)
        print(json.dumps({"labels": kind, "accuracy": found["accuracy"], "says": found["conclusion"]}), flush=True)
        print("\n".join(row["sentence"] for row in found["differences"].values()), flush=True)
