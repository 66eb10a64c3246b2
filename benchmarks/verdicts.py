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

from qkd.comparison.statistics import ALPHA, holm, mean_over_seeds_and_texts

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


def table(comparisons):
    """Return the share of false alarms, and of planted differences found, over kinds of students, seeds and rivals."""
    found = []
    for own in (0.0, 0.5, 1.0):
        for seeds in (3, 10):
            for others in (1, 5):
                alarms, _ = share_of_verdicts(0.0, TEXTS, seeds, own, comparisons, others)
                found.append({"own": own, "seeds": seeds, "others": others, "false_alarms": alarms})
                print(json.dumps(found[-1]), flush=True)
        for others in (1, 5):
            _, right = share_of_verdicts(PLANTED, TEXTS, 10, own, comparisons, others)
            apart = disagreement(own)
            found.append({"own": own, "seeds": 10, "others": others, "found": right, "disagree": apart})
            print(json.dumps(found[-1]), flush=True)
    return [row | {"comparisons": comparisons} for row in found]


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
    apart = {row["own"]: row["disagree"] for row in found if "disagree" in row}
    for row in found:
        alarms, right = (f"{100 * row[key]:.1f} %" if key in row else "-" for key in ("false_alarms", "found"))
        name = {0.0: "none", 0.5: "some", 1.0: "much"}[row["own"]]
        lines.append(
            f"| {name} | {100 * apart[row['own']]:.0f} % | {row['seeds']} | {row['others']} | {alarms} | {right} |"
        )
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=200)
    print("\n".join(markdown(table(parser.parse_args().comparisons))))
