"""How good the built-in prompts are, judged on all texts with a calibration that has not seen them.

    python benchmarks/prompts.py emotion.jsonl thematic.jsonl --limit 240 [--teacher smollm2-135m] [--few-shots 0]

The texts are in four parts; each part's scores become logits by what the other three parts say. A row is one prompt:
accuracy without calibration, with biases that know no labels, and with the default calibration, and its cross-entropy
(nats). A star marks the prompt with the least.
"""

import argparse
from pathlib import Path

import numpy as np

from qkd.config import make_config
from qkd.text.data import load as data
from qkd.text.teachers.heads import mean_cross_entropy
from qkd.text.teachers.prompt import FOLDS, PromptTeacher, calibration
from qkd.text.teachers.prompts import BUILT_IN


def crossed(scores: np.ndarray, targets: np.ndarray, how: str) -> np.ndarray:
    """Return logits (N,C) of scores (N,C), each part's calibrated by the others."""
    fold, logits = np.arange(len(targets)) % FOLDS, np.empty_like(scores)
    for part in range(FOLDS):
        weight, bias = calibration(scores[fold != part], targets[fold != part], how)
        logits[fold == part] = scores[fold == part] @ weight + bias
    return logits


def main() -> None:
    """Print a row for each file and prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--teacher", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=240)
    parser.add_argument("--few-shots", type=int, default=0)
    given = parser.parse_args()
    print("| texts | prompt | raw | batch | calibrated | cross-entropy |\n| --- | --- | --- | --- | --- | --- |")
    for source in given.texts:
        dataset = data.load_dataset(source, limit=given.limit)
        splits, y = data.split_dataset(dataset), dataset.targets
        rows, losses = [], []
        for name in BUILT_IN:
            config = make_config({"prompt": {"template": name, "shots": given.few_shots}})
            teacher = PromptTeacher(given.teacher, spec=config.prompt)
            teacher.fit(dataset, splits)
            scores = teacher.scores(dataset.texts)
            logits = crossed(scores, y, "labels")
            batch = crossed(scores, y, "batch")
            right = [float((found.argmax(axis=1) == y).mean()) for found in (scores, batch, logits)]
            losses.append(mean_cross_entropy(logits, y))
            rows.append((name, *(f"{share:.3f}" for share in right), f"{losses[-1]:.3f}"))
        for row, loss in zip(rows, losses, strict=True):
            star = "*" if loss == min(losses) else ""
            print(f"| {Path(source).stem} | {row[0]}{star} | " + " | ".join(row[1:]) + " |", flush=True)


if __name__ == "__main__":
    main()
