"""Rates of false alarms and of false equivalence, and power, of a comparison's verdicts.

Simulated students: a student answers text n correctly with probability sigmoid(ability + text_n + own_n). The
difficulty text_n is common to both students, and own_n is one student's own difficulty with that text. The ability of
every training run varies with its seed. Run it: python benchmarks/verdicts.py
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scipy.optimize import brentq

from qkd.core.files import read_json, write_json
from qkd.student.verdicts import compare_accuracies

DIFFICULTY, SEED_SPREAD = 2.5, 0.05
SEEDS, MARGIN, GAP = 10, 0.01, 0.03
CASES = (  # (difference in accuracy, test texts): equal students, as different as the margin, three points
    *((0.0, 500), (0.0, 2000), (0.0, 20_000)),
    *((MARGIN, 500), (MARGIN, 2000), (MARGIN, 20_000)),
    *((GAP, 500), (GAP, 2000)),
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def accuracy(ability, own):
    z = np.random.default_rng(1).normal(0, np.hypot(DIFFICULTY, own), 100_000)
    return sigmoid(ability + z).mean()


def hits(rng, texts, ability, own):
    runs = ability + rng.normal(0, SEED_SPREAD, (SEEDS, 1))
    return (rng.random((SEEDS, len(texts))) < sigmoid(runs + texts + rng.normal(0, own, len(texts)))).astype(float)


def verdict_shares(gap, n_texts, own, rivals, comparisons, base=0.75):
    """Return the share of comparisons in which any rival gets each verdict; 'found' is that on the first rival."""
    low = brentq(lambda a: accuracy(a, own) - base, -5, 5)
    high = brentq(lambda a: accuracy(a, own) - base - gap, -5, 8)
    counts = dict.fromkeys(("better", "worse", "equivalent", "found"), 0)
    for number in range(comparisons):
        rng = np.random.default_rng([number, n_texts, int(1000 * gap), rivals])
        texts = rng.normal(0, DIFFICULTY, n_texts)
        first = hits(rng, texts, high, own)
        others = {str(rival): hits(rng, texts, low, own) for rival in range(rivals)}
        found = compare_accuracies("first", first, others, MARGIN)
        for verdict in ("better", "worse", "equivalent"):
            counts[verdict] += any(one.verdict == verdict for one in found.values())
        counts["found"] += found["0"].verdict == ("better" if gap > MARGIN else "equivalent")
    return {verdict: count / comparisons for verdict, count in counts.items()}


def table(comparisons, kept=None):
    """Return the shares of verdicts over kinds of students, texts and rivals.

    Rows that the file ``kept`` has are taken from it; each new one is written there.
    """
    wanted = [
        {"own": own, "texts": texts, "rivals": rivals, "gap": gap, "comparisons": comparisons}
        for own in (0.0, 1.0)
        for gap, texts in CASES
        for rivals in (1, 5)
    ]
    rows = read_json(kept) if kept is not None and kept.is_file() else []
    for row in wanted:
        if any(row.items() <= one.items() for one in rows):
            continue
        rows.append(row | verdict_shares(row["gap"], row["texts"], row["own"], row["rivals"], comparisons))
        print(json.dumps(rows[-1]), flush=True)
        if kept is not None:
            write_json(kept, rows)
    return [next(one for one in rows if row.items() <= one.items()) for row in wanted]


def markdown(rows):
    """Return the table as lines of Markdown."""
    lines = [
        f"{rows[0]['comparisons']} simulated comparisons a row, {SEEDS} seeds, students at 75 % accuracy, margin "
        f"{100 * MARGIN:g} point (`benchmarks/verdicts.py`). A verdict counts if any of the rivals gets it; 'found' is "
        "the share in which the first rival gets the true verdict.",
        "",
        "| own difficulty | true difference | test texts | rivals | false better or worse | false equivalent | found |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        gap, own = row["gap"], {0.0: "none", 1.0: "much"}[row["own"]]
        alarms = f"{100 * (row['worse'] + (0 if gap else row['better'])):.1f} %"
        equal = f"{100 * row['equivalent']:.1f} %" if gap else "-"
        found = "-" if gap == MARGIN else f"{100 * row['found']:.0f} %"
        cells = (own, f"{100 * gap:g} points", f"{row['texts']:,}", str(row["rivals"]), alarms, equal, found)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=200)
    print("\n".join(markdown(table(parser.parse_args().comparisons))))
