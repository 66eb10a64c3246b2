"""Accuracy and time of teachers on the same test split, in one run.

    python benchmarks/teachers.py --teacher probe:smollm2-135m --data emotion.jsonl --limit 2000 --seeds 3

Each row also has the accuracy of a logistic regression on an encoder's embeddings of the same texts. The
paired difference has a 95 % interval. Answers are cached as always: point QKD_CACHE at an empty folder to time them.
"""

import argparse
import time

import numpy as np

from qkd.core.config import make_config
from qkd.data import loading as data
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.student import logreg, metrics
from qkd.student.data import TrainingData
from qkd.teachers.registry import make_teacher


def main() -> None:
    """Print a row for each task, seed and teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["docstrings"])
    parser.add_argument("--teacher", nargs="+", default=["probe:smollm2-135m"])
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="splits, and texts that a limit keeps")
    parser.add_argument("--prompt", default=make_config({}).prompt.prompt)
    parser.add_argument("--examples", type=int, default=0)
    given = parser.parse_args()
    config = make_config({"prompt": {"prompt": given.prompt, "examples": given.examples}})
    for source in given.data:
        for seed in range(given.seeds):
            dataset = data.load_dataset(source, limit=given.limit, seed=seed)
            splits = data.split_dataset(dataset, seed=seed)
            training = data_of(dataset, splits, embed_texts(make_encoder(given.encoder), dataset.texts))
            targets, plain = dataset.targets[splits.test], logreg.fit_logreg(training)[0]
            test = [dataset.texts[row] for row in splits.test]
            for name in given.teacher:
                teacher = make_teacher(name, config=config)
                started = time.perf_counter()
                teacher.fit(dataset, splits)
                fitted = time.perf_counter()
                logits = teacher.logits(dataset.texts)
                ended = time.perf_counter()
                gain = metrics.accuracy_gain(logits[splits.test], plain, targets)
                told = teacher.describe()
                print(
                    f"{source} seed {seed} {name}: {len(splits.train)} + {len(splits.valid)} + {len(test)} texts, test "
                    f"accuracy {share(logits[splits.test], targets):.3f}, cross-entropy "
                    f"{cross_entropy(logits[splits.test], targets):.3f}, training texts "
                    f"{share(logits[splits.train], dataset.targets[splits.train]):.3f}; logistic regression on "
                    f"{given.encoder} {share(plain, targets):.3f} (teacher {100 * gain.value:+.1f} points, "
                    f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}); fit {fitted - started:.1f} s, all texts "
                    f"{ended - fitted:.1f} s more; {told.read or ''} {told.likelihoods or ''}",
                    flush=True,
                )


def data_of(dataset: data.Dataset, splits: data.Splits, embeddings: np.ndarray) -> TrainingData:
    """Return what logistic regression learns from; it needs no teacher."""
    nothing = np.zeros((len(dataset.texts), len(dataset.classes)), np.float32)
    return TrainingData(dataset.classes, embeddings, nothing, dataset.targets, splits.train, splits.valid, splits.test)


def share(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the accuracy of logits (N,C)."""
    return float(np.mean(logits.argmax(axis=1) == targets))


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean cross-entropy, nats, of logits (N,C)."""
    return float(-np.log(metrics.softmax(logits)[np.arange(len(targets)), targets] + 1e-30).mean())


if __name__ == "__main__":
    main()
