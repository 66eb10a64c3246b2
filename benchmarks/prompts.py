"""The accuracy of the built-in prompts on texts that the calibration has not seen.

    python benchmarks/prompts.py emotion.jsonl thematic.jsonl --seeds 5 [--limit 240]
        [--teacher smollm2-135m] [--examples 0]

The texts are in four parts. A calibration on the other three parts turns each part's scores into logits. A row is one
prompt. It has the accuracy without calibration, with biases that know no labels, with a map of the labels' scores and
with the default. The default also reads words near the labels' own, and the last column is its cross-entropy (nats).
A star marks the prompt with the least.
"""

import argparse
from pathlib import Path

import numpy as np

from qkd.core.config import make_config
from qkd.data import loading as data
from qkd.teachers.calibration import calibrate
from qkd.teachers.prompt import PromptTeacher
from qkd.teachers.prompt_files import BUILT_IN


def main() -> None:
    """Print a row for each file and prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--teacher", default="smollm2-135m")
    parser.add_argument("--limit", type=int, default=240)
    parser.add_argument("--examples", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="draws of the texts; rows are their means")
    given = parser.parse_args()
    print(f"| texts | prompt | none | batch | labels | words | cross-entropy |\n|{' --- |' * 7}")
    for source in given.texts:
        found = dict[str, list[list[float]]]()
        for seed in range(given.seeds):
            dataset = data.load_dataset(source, limit=given.limit, seed=seed)
            splits, y = data.split_dataset(dataset, seed=seed), dataset.targets
            for name in BUILT_IN:
                config = make_config({"prompt": {"prompt": name, "examples": given.examples}})
                teacher = PromptTeacher(given.teacher, spec=config.prompt)
                teacher.fit(dataset, splits)
                scores, classes = teacher.scores(dataset.texts), len(dataset.classes)
                told = [calibrate(scores, y, classes, how) for how in ("none", "batch", "labels", "words")]
                found.setdefault(name, []).append([*(each.accuracy for each in told), told[-1].loss])
        means = {name: np.mean(rows, axis=0) for name, rows in found.items()}
        best = min(means, key=lambda name: float(means[name][-1]))
        for name, row in means.items():
            star = "*" if name == best else ""
            cells = " | ".join(f"{value:.3f}" for value in row)
            print(f"| {Path(source).stem} | {name}{star} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
