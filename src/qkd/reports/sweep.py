"""A sweep for people: what was found, what it is worth on the test texts, and how the search went."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from qkd.core.markup import markdown_block, markdown_text
from qkd.reports import comparison, differences, plots
from qkd.reports.pages import page, picture
from qkd.reports.tables import aligned, markdown_table
from qkd.results import Sweep

SHOWN = 10
"""Trials that a table shows."""
CHANGES = ("setting", "start", "best", "explains")


def trial_rows(sweep: Sweep) -> list[tuple[str, ...]]:
    """Return heads and, from the best on, a row of cells for each of the best trials."""
    sign = 1 if sweep.goal == "loss" else -1
    whole = [trial for trial in sweep.trials if trial.state == "complete"]
    best = sorted(whole, key=lambda trial: (sign * (trial.value or 0.0), trial.valid_loss, trial.number))[:SHOWN]
    names = [setting.name for setting in sweep.space]
    heads = ("trial", "valid. accuracy", "valid. loss", *names, "epochs", "s")
    cells = [
        (
            str(trial.number),
            f"{trial.valid_accuracy:.3f}",
            f"{trial.valid_loss:.3f}",
            *(_shown(trial.point[name]) for name in names),
            str(trial.epochs),
            f"{trial.seconds:.1f}",
        )
        for trial in best
    ]
    return [heads, *cells]


def changes(sweep: Sweep) -> list[tuple[str, ...]]:
    """Return a row of cells for each dimension: the start, the best, and the share it explains."""
    best = sweep.trials[sweep.best].point
    shares = sweep.importances
    return [
        (
            setting.name,
            _shown(setting.start),
            _shown(best[setting.name]),
            f"{100 * shares[setting.name]:.0f} %" if setting.name in shares else "-",
        )
        for setting in sweep.space
    ]


def sweep_conclusion(sweep: Sweep) -> str:
    """Return what a person should take from a sweep, in a few sentences."""
    states = [trial.state for trial in sweep.trials]
    top, judged = sweep.trials[sweep.best], sweep.judged
    count = f"{len(states)} trials"
    parts = [f"{states.count(word)} {word}" for word in ("pruned", "failed") if word in states]
    if parts:
        count += f" ({', '.join(parts)})"
    sentences = [
        f"Of {count}, number {top.number} is best: validation accuracy {top.valid_accuracy:.3f}, which the choice "
        "makes look better than it is.",
        "Trained anew and judged on the test texts:",
        *(difference.sentence for difference in judged.differences.values()),
        "The linear student has the best trial's settings and was not searched for itself; "
        "qkd compare --tune gives every student the same number of trials.",
    ]
    return " ".join(sentences)


def sweep_text(sweep: Sweep) -> str:
    """Return tables and conclusion for a terminal."""
    judged = sweep.judged
    return "\n".join(
        [
            aligned(trial_rows(sweep)),
            "",
            aligned([CHANGES, *changes(sweep)]),
            "",
            aligned([comparison.columns(judged), *comparison.student_rows(judged)]),
            "",
            sweep_conclusion(sweep),
            "",
            f"the best: {sweep.command}",
        ]
    )


def sweep_markdown(sweep: Sweep) -> str:
    """Return the report as Markdown."""
    judged, (heads, *cells) = sweep.judged, trial_rows(sweep)
    return "\n".join(
        [
            f"# A search over {', '.join(markdown_text(setting.name) for setting in sweep.space)}",
            "",
            markdown_text(sweep_conclusion(sweep)),
            "",
            *markdown_block(sweep.command),
            "",
            markdown_text(_setting(sweep)),
            "",
            *markdown_table(CHANGES, changes(sweep)),
            "",
            EXPLAINED,
            "",
            "Judged on the test texts:",
            "",
            *markdown_table(comparison.columns(judged), comparison.student_rows(judged)),
            "",
            *markdown_table(differences.COLUMNS, differences.difference_rows(judged)),
            "",
            comparison.EXPLAINED,
            "",
            "The best trials:",
            "",
            *markdown_table(heads, cells),
            "",
            "Again:",
            "",
            *markdown_block(sweep.again),
            "",
        ]
    )


def sweep_html(name: str, sweep: Sweep) -> str:
    """Return the report as one self-contained page."""
    judged, (heads, *cells) = sweep.judged, trial_rows(sweep)
    figures = [
        picture("All trials in order. Hollow dots were pruned, and the line is the best so far.", history, sweep),
        picture("Test accuracy of the best minus that of the others, 95 % interval.", differences.forest, judged),
        picture("All trials against each setting. The ring marks the best.", slices, sweep),
    ]
    return page(
        "sweep.html",
        title=name,
        setting=_setting(sweep),
        conclusion=sweep_conclusion(sweep),
        command=sweep.command,
        change_columns=CHANGES,
        changes=changes(sweep),
        columns=comparison.columns(judged),
        rows=comparison.student_rows(judged),
        difference_columns=differences.COLUMNS,
        differences=differences.difference_rows(judged),
        explained=f"{comparison.EXPLAINED} {EXPLAINED}",
        figures=figures,
        trial_columns=heads,
        trials=cells,
        again=sweep.again,
    )


EXPLAINED = (
    "'Explains' is the share of the variance between trials that a setting alone accounts for (fANOVA, Hutter et al. "
    "2014), from ten whole trials on."
)


def history(sweep: Sweep) -> Figure:
    """Draw what each trial came to, in order, and the best until then."""
    figure, axes = plots.canvas()
    top = np.minimum if sweep.goal == "loss" else np.maximum
    for state, fill in (("complete", plots.STUDENT), ("pruned", "none")):
        points = [(trial.number, trial.value) for trial in sweep.trials if trial.state == state]
        if points:
            axes.scatter(*zip(*points, strict=True), s=22, facecolors=fill, edgecolors=plots.STUDENT)
    whole = [(trial.number, trial.value) for trial in sweep.trials if trial.state == "complete"]
    numbers, values = zip(*whole, strict=True)
    axes.step(numbers, top.accumulate(values), where="post", color=plots.TEACHER, lw=1.2)
    axes.set(xlabel="trial", ylabel=f"validation {sweep.goal}")
    return figure


def slices(sweep: Sweep) -> Figure:
    """Draw what trials came to against each dimension."""
    space, columns = sweep.space, 4
    rows = -(-len(space) // columns)
    figure = Figure(figsize=(11.0, 2.6 * rows), layout="constrained")
    for number, setting in enumerate(space):
        axes = figure.add_subplot(rows, columns, number + 1)
        plots.style_axes(axes, 7)
        values = [str(value) for value in setting.values]
        for trial in sweep.trials:
            if trial.value is None:
                continue
            here = trial.point[setting.name]
            x = values.index(str(here)) if values else here
            fill = plots.STUDENT if trial.state == "complete" else "none"
            axes.scatter(x, trial.value, s=16, facecolors=fill, edgecolors=plots.STUDENT, alpha=0.7)
            if trial.number == sweep.best:
                axes.scatter(x, trial.value, s=90, facecolors="none", edgecolors=plots.TEACHER, linewidths=1.5)
        if values:
            axes.set_xticks(range(len(values)), [plots.shown(value[-18:]) for value in values], rotation=20, ha="right")
        elif setting.logarithmic:
            axes.set_xscale("log")
        axes.set_title(plots.shown(setting.name), fontsize=9, color=plots.INK)
    return figure


def _setting(sweep: Sweep) -> str:
    searched = "; ".join(setting.described for setting in sweep.space)
    return f"{comparison.setting(sweep.judged)} SearchedSetting, by validation {sweep.goal}: {searched}."


def _shown(value: float | str | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
