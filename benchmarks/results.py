"""benchmarks/paper_tasks.md: the default student, the paper's recipe, and tuned controls on the paper's tasks.

python benchmarks/results.py --data FOLDER [--tasks hiding thematic emotion] [--limit 2000] [--seeds 10] [--tune 6]

FOLDER holds TASK.jsonl ("text", "label"). Teacher and encoder come from the cache where it knows the texts; finished
trials remain in --runs, so more seeds cost only their own time. The page is written after every task, from all that
are done so far.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import verdicts

from qkd.core.files import write_text
from qkd.reports import comparison
from qkd.reports.tables import Table
from qkd.results import Comparison
from qkd.studies import reproduce

OTHERS = ("hardware", "product", "linear", "mlp", "logreg")


def page(found: dict[str, tuple[Comparison, str]], asked: argparse.Namespace, trusted: list[dict]) -> str:
    """Return the page, Markdown."""
    lines = [
        "# Results on the paper's tasks",
        "",
        "These are the public tasks of QD-LLM (Li et al., arXiv:2505.13205), with the authors' training texts: "
        f"{asked.limit:,} texts a task, stratified, {100 * asked.test:.0f} % of them for the test. `qdllm` is the "
        "paper's recipe (`examples/qdllm.toml`) as published, with the paper's kind of encoder output. `hardware` is "
        f"qkd's default student. All learn from the same teacher's logits, with {asked.seeds} seeds each.",
        "",
        f"Every student but the published recipe and its deviations tried {asked.tune} settings of learning rate, "
        "weight decay and dropout. The first setting is the student's own, the other draws are the same for all, and "
        "the smallest validation loss selects. `logreg` selects one of six strengths of regularization.",
        "",
        "`benchmarks/results.py` made this page. It contains no numbers. To repeat it:",
        "",
        f"    python benchmarks/results.py --data FOLDER --tasks {' '.join(found)} --limit {asked.limit} "
        f"--test {asked.test} --seeds {asked.seeds} --tune {asked.tune}",
        "",
        *_overview(found),
    ]
    for task, (summary, times) in found.items():
        texts, told = summary.texts, summary.reproduction
        assert told is not None and told.beside is not None
        lines += [
            f"## {task}",
            "",
            f"{texts['train']:,} training, {texts['valid']:,} validation and {texts['test']:,} test texts; teacher "
            f"`{summary.teacher}`, accuracy {summary.teacher_accuracy}; "
            f"`hardware` and the controls read {summary.students['hardware'].encoder}.",
            "",
            comparison.student_table(summary).to_markdown(),
            "",
            comparison.tuning_table(summary).to_markdown(),
            "",
            f"Accuracy of `{told.beside.reference}` minus that of the others, in points:",
            "",
            comparison.difference_table(told.beside).to_markdown(),
            "",
            told.beside.conclusion,
            "",
            "Effect of each deviation of the public code:",
            "",
            comparison.recipe_table(told).to_markdown(),
            "",
            f"{times} ",
            "",
        ]
    lines += [comparison.EXPLANATION, "", "## Can a verdict be trusted?", "", *verdicts.markdown(trusted)]
    return "\n".join([*(line.rstrip() for line in lines), ""])


def _overview(found: dict[str, tuple[Comparison, str]]) -> list[str]:
    """Return accuracies of all students on all tasks, side by side."""
    tasks = [summary for summary, _ in found.values()]
    names = list(tasks[0].students)
    rows = [("teacher", *(str(one.teacher_accuracy) for one in tasks))]
    rows += [(name, *(str(one.students[name].numbers.accuracy) for one in tasks)) for name in names]
    return [Table(("accuracy", *found), rows).to_markdown(), ""]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["hiding", "thematic", "emotion"])
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--test", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tune", type=int, default=6)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/paper_tasks.md"))
    options = parser.parse_args()
    trusted = verdicts.table(200, options.runs / "verdicts.json")
    summaries = {}
    for name in options.tasks:
        started, before = time.monotonic(), os.getloadavg()[0]
        source = str(options.data / f"{name}.jsonl")
        told = {"data": source, "limit": options.limit, "test": options.test, "runs": options.runs}
        summary = reproduce(seeds=options.seeds, students=OTHERS, tune=options.tune, **told)
        training = sum(row.seconds * row.trials for row in summary.students.values())
        summaries[name] = (
            summary,
            f"Training of all these trials: {training:.0f} s of one core each. This last call took "
            f"{time.monotonic() - started:.0f} s (load before it {before:.1f}; results of earlier calls were kept).",
        )
        write_text(options.out, page(summaries, options, trusted))
