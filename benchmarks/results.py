"""The table of docs/results.md: the default student, the paper's recipe, its slips, and controls, on the paper's tasks.

python benchmarks/results.py --data FOLDER [--tasks hiding thematic emotion] [--limit 2000] [--seeds 10]

FOLDER holds TASK.jsonl ("text", "label"). Teacher and encoder come from the cache where it knows the texts; trials that
are done are kept in --runs, so that more seeds cost only what they add. The page is written anew after every task.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from qkd.reports import comparison
from qkd.runs import write_text
from qkd.studies import reproduce

OTHERS = ("hardware", "product", "linear", "mlp", "logreg")


def page(found: dict[str, dict], asked: argparse.Namespace, seconds: dict[str, float]) -> str:
    """Return the page, Markdown."""
    lines = [
        "# Results on the paper's tasks",
        "",
        "Public tasks of QD-LLM (Li et al., arXiv:2505.13205), the authors' training texts, split here: "
        f"{asked.limit:,} texts a task, stratified, {100 * asked.test:.0f} % of them for the test. `qdllm` is the "
        "paper's recipe (`examples/qdllm.toml`); everything else is a student with qkd's defaults. All learn from "
        f"the same teacher's logits, with {asked.seeds} seeds each. No student was tuned for these tables; the "
        "controls share the default student's settings.",
        "",
        "Made by `benchmarks/results.py`, which holds no numbers; do it again with",
        "",
        f"    python benchmarks/results.py --data FOLDER --limit {asked.limit} --test {asked.test} "
        f"--seeds {asked.seeds}",
        "",
    ]
    for task, summary in found.items():
        heads, cells = comparison.columns(summary), comparison.rows(summary)
        texts, teacher = summary["texts"], summary["teacher"]
        lines += [
            f"## {task}",
            "",
            f"{texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test texts; teacher "
            f"`{teacher['name']}`, accuracy {teacher['accuracy']['value']:.3f} "
            f"[{teacher['accuracy']['low']:.3f}, {teacher['accuracy']['high']:.3f}]; {seconds[task]:.0f} s with "
            "the teacher's answers from the cache, on a machine busy with other work.",
            "",
            *comparison.grid(heads, cells),
            "",
            "Accuracy of `qdllm` minus that of the others, in points:",
            "",
            *comparison.grid(comparison.DIFFERENCES, comparison.differences(summary)),
            "",
            "What each slip of the public code does:",
            "",
            *comparison.grid(comparison.SLIPS, comparison.slips(summary)),
            "",
            summary["conclusion"],
            "",
        ]
    return "\n".join([*lines, comparison.EXPLAINED, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["hiding", "thematic", "emotion"])
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--test", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    options = parser.parse_args()
    summaries, times = {}, {}
    for name in options.tasks:
        started = time.monotonic()
        source = str(options.data / f"{name}.jsonl")
        told = {"data": source, "limit": options.limit, "test": options.test, "runs": options.runs}
        summaries[name] = reproduce(seeds=options.seeds, students=OTHERS, **told)
        times[name] = time.monotonic() - started
        write_text(options.out, page(summaries, options, times))
