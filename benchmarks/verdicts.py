"""Whether a comparison's verdict can be trusted: false alarms among equal students, planted differences found.

Simulated students: text n is answered rightly with probability sigmoid(ability + text_n + own_n), where text_n is
common to both students (texts differ in difficulty), own_n is what one student alone finds hard in that text, and the
ability of every training run varies with its seed. Run it: python benchmarks/verdicts.py
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scipy.optimize import brentq

from qkd.core.files import read_json, write_json
from qkd.experiments.statistics import ALPHA, holm, mean_over_seeds_and_texts

DIFFICULTY, SEED_SPREAD = 2.5, 0.05
TEXTS, PLANTED = 500, 0.03


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def accuracy(ability, own):
    z = np.random.default_rng(1).normal(0, np.hypot(DIFFICULTY, own), 100_000)
    return sigmoid(ability + z).mean()


def hits(rng, texts, ability, own, seeds):
    runs = ability + rng.normal(0, SEED_SPREAD, (seeds, 1))
    return rng.random((seeds, len(texts))) < sigmoid(runs + texts + rng.normal(0, own, len(texts)))


def share_of_verdicts(gap, n_texts, seeds, own, comparisons, others=1, base=0.75):
    """Return the share of comparisons with a verdict, and of those with the right sign."""
    low = brentq(lambda a: accuracy(a, own) - base, -5, 5)
    high = brentq(lambda a: accuracy(a, own) - base - gap, -5, 8)
    any_verdict = right = 0
    for number in range(comparisons):
        rng = np.random.default_rng([number, n_texts, seeds, int(1000 * gap), others])
        texts = rng.normal(0, DIFFICULTY, n_texts)
        first = hits(rng, texts, high, own, seeds)
        gaps = [first.astype(float) - hits(rng, texts, low, own, seeds) for _ in range(others)]
        found = [mean_over_seeds_and_texts(rows, resamples=1000, seed=number) for rows in gaps]
        corrected = holm([one.p for one in found])
        any_verdict += any(p <= ALPHA for p in corrected)
        right += corrected[0] <= ALPHA and found[0].value > 0
    return any_verdict / comparisons, right / comparisons


def table(comparisons, kept=None):
    """Return shares of false alarms, and of planted differences found, over kinds of students, seeds and rivals.

    Rows that the file ``kept`` has are taken from it; each new one is written there.
    """
    asked = [
        {"own": own, "seeds": seeds, "others": others, "gap": gap, "comparisons": comparisons}
        for own in (0.0, 0.5, 1.0)
        for gap, seeds, others in (*((0.0, s, o) for s in (3, 10) for o in (1, 5)), (PLANTED, 10, 1), (PLANTED, 10, 5))
    ]
    found = read_json(kept) if kept is not None and kept.is_file() else []
    for row in asked:
        if any(row.items() <= one.items() for one in found):
            continue
        alarms, right = share_of_verdicts(row["gap"], TEXTS, row["seeds"], row["own"], comparisons, row["others"])
        found.append(row | {"share": right if row["gap"] else alarms})
        print(json.dumps(found[-1]), flush=True)
        if kept is not None:
            write_json(kept, found)
    return [next(one for one in found if row.items() <= one.items()) for row in asked]


def disagreement(own, base=0.75):
    """Return the share of texts on which two equal students differ, one seed each."""
    rng = np.random.default_rng(2)
    ability = brentq(lambda a: accuracy(a, own) - base, -5, 5)
    texts = rng.normal(0, DIFFICULTY, 20_000)
    return float((hits(rng, texts, ability, own, 1) != hits(rng, texts, ability, own, 1)).mean())


def markdown(found):
    """Return the table as lines of Markdown."""
    lines = [
        f"{found[0]['comparisons']} simulated comparisons a row, {TEXTS} test texts, students at 75 % accuracy, "
        "corrected for the number of rivals (Holm); of equal students any verdict is a false alarm, of a planted "
        f"difference of {100 * PLANTED:.0f} points to every rival the verdict against the first is asked for "
        "(`benchmarks/verdicts.py`). 'Differ' is the share of texts on which two equal students differ, one seed each.",
        "",
        "| two students' own difficulty with a text | differ | seeds | rivals | false alarms | planted found |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        share = f"{100 * row['share']:.1f} %"
        alarms, right = ("-", share) if row["gap"] else (share, "-")
        name = {0.0: "none", 0.5: "some", 1.0: "much"}[row["own"]]
        apart = f"{100 * disagreement(row['own']):.0f} %"
        lines.append(f"| {name} | {apart} | {row['seeds']} | {row['others']} | {alarms} | {right} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=200)
    print("\n".join(markdown(table(parser.parse_args().comparisons))))
