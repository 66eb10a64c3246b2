"""The report of a sweep, as a page, as Markdown and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qkd.core.errors import ConfigError, nearest
from qkd.reports import comparison, plots
from qkd.reports.pages import Code, Part, Picture, Report, Section
from qkd.reports.tables import Table
from qkd.results import Sweep

MAX_TRIALS = 10
"""Trials in a table."""
EXPLANATION = (
    "'Explains' is the share of the variance between trials that a setting alone explains (fANOVA, Hutter et al. "
    "2014). It needs at least ten complete trials."
)


def trial_table(sweep: Sweep) -> Table:
    """Return the best trials, the best first."""
    sign = 1 if sweep.goal == "loss" else -1
    complete = [trial for trial in sweep.trials if trial.state == "complete"]
    best = sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.valid_loss, trial.number))
    names = [setting.name for setting in sweep.space]
    return Table(
        ("trial", "valid. accuracy", "valid. loss", *names, "epochs", "s"),
        [
            (
                str(trial.number),
                f"{trial.valid_accuracy:.3f}",
                f"{trial.valid_loss:.3f}",
                *(_shown(trial.point[name]) for name in names),
                str(trial.epochs),
                f"{trial.seconds:.1f}",
            )
            for trial in best[:MAX_TRIALS]
        ],
    )


def change_table(sweep: Sweep) -> Table:
    """Return the start and the best value of each setting, and the share of the variance that it explains."""
    best, shares = sweep.trials[sweep.best].point, sweep.importances
    return Table(
        ("setting", "start", "best", "explains"),
        [
            (
                setting.name,
                _shown(setting.start),
                _shown(best[setting.name]),
                f"{100 * shares[setting.name]:.0f} %" if setting.name in shares else "-",
            )
            for setting in sweep.space
        ],
    )


def sweep_conclusion(sweep: Sweep) -> str:
    """Return the conclusion of a sweep in a few sentences."""
    states = [trial.state for trial in sweep.trials]
    best, judged = sweep.trials[sweep.best], sweep.judged
    ends = [f"{states.count(state)} {state}" for state in ("pruned", "failed") if state in states]
    count = f"{len(states)} trials" + (f" ({', '.join(ends)})" if ends else "")
    sentences = [
        f"Of {count}, number {best.number} is best, with validation accuracy {best.valid_accuracy:.3f}. The choice "
        "biases this number upward.",
        "Trained again and judged on the test texts:",
        *(difference.sentence for difference in judged.differences.values()),
        "The linear student has the best trial's settings and no search of its own. qkd compare --tune gives every "
        "student the same number of trials.",
    ]
    return " ".join(sentences)


def _sections(sweep: Sweep) -> list[Section]:
    judged = sweep.judged
    setting = "; ".join(setting.described for setting in sweep.space)
    pictures = [
        Picture("All trials in order. Hollow dots were pruned, and the line is the best so far.", history, (sweep,)),
        Picture("Test accuracy of the best minus that of the others, 95 % interval.", comparison.forest, (judged,)),
    ]
    return [
        Section("Best trials", [trial_table(sweep)], on_terminal=True),
        Section("Changes of the best trial", [change_table(sweep), EXPLANATION], on_terminal=True),
        Section(
            "Students on the test texts",
            [comparison.student_table(judged), comparison.difference_table(judged), sweep_conclusion(sweep)],
            on_terminal=True,
        ),
        Section(
            "The search",
            [pictures, [Picture("All trials against each setting. The ring marks the best.", slices, (sweep,))]],
        ),
        Section("Command that trains the best student", [Code(sweep.command)], on_terminal=True),
        Section(
            "Setting",
            [
                f"{comparison.setting(judged)} The search used the validation {sweep.goal}: {setting}.",
                comparison.EXPLANATION,
            ],
        ),
        Section("Command", [Code(sweep.again)]),
    ]


def parts(sweep: Sweep) -> Sequence[Part]:
    """Return best trials, changes, conclusion and picture of a sweep."""
    picture = Picture("All trials in order. The line is the best so far.", history, (sweep,))
    judged = comparison.difference_table(sweep.judged)
    return [trial_table(sweep), change_table(sweep), judged, sweep_conclusion(sweep), [picture]]


def records(sweep: Sweep) -> dict[str, list[dict[str, Any]]]:
    """Return the trials with their settings, and the students that were judged on the test texts."""
    trials = [
        {"number": trial.number, **trial.point, **trial.model_dump(exclude={"number", "point", "parameters"})}
        for trial in sweep.trials
    ]
    return {"trials": trials, "students": comparison.records(sweep.judged)["students"]}


def report(sweep: Sweep, name: str = "") -> Report:
    """Return the report of a sweep called ``name``."""
    settings, judged = " and ".join(setting.name for setting in sweep.space), sweep.judged
    shares = {who: comparison.share(line) for who, line in judged.students.items()}
    answers = [
        ("Question", f"Which values of {settings} suit a student on {judged.data}?"),
        (
            "Answer",
            f"Those of trial {sweep.best} of {len(sweep.trials)}. With them the student classifies {shares['best']} of "
            "the test texts correctly.",
        ),
        ("Control", f"The start of the search {shares['start']}, a linear student {shares['linear']}."),
        (
            "Cost",
            f"{sum(trial.seconds or 0.0 for trial in sweep.trials):,.0f} s of training in {len(sweep.trials)} trials.",
        ),
    ]
    title = f"A search over {settings}"
    return Report(f"{name}: {title}" if name else title, answers, _sections(sweep))


def history(sweep: Sweep, axes: Any = None) -> Figure:
    """Draw the goal of each trial in order, and the best until then."""
    figure, axes = plots.canvas(axes=axes)
    top = np.minimum if sweep.goal == "loss" else np.maximum
    for state, fill in (("complete", plots.STUDENT), ("pruned", "none")):
        points = [(trial.number, trial.value) for trial in sweep.trials if trial.state == state]
        if points:
            axes.scatter(*zip(*points, strict=True), s=22, facecolors=fill, edgecolors=plots.STUDENT)
    whole = [(trial.number, trial.value) for trial in sweep.trials if trial.state == "complete"]
    numbers, values = zip(*whole, strict=True)
    axes.step(numbers, top.accumulate(values), where="post", color=plots.TEACHER, lw=1.2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="trial", ylabel=f"validation {sweep.goal}")
    return figure


def slices(sweep: Sweep) -> Figure:
    """Draw the goal of each trial against each searched setting."""
    columns = min(4, len(sweep.space))
    rows = -(-len(sweep.space) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.6 * rows), layout="constrained")
    for number, setting in enumerate(sweep.space):
        axes = figure.add_subplot(rows, columns, number + 1)
        one_setting(sweep, setting.name, axes)
        plots.style_axes(axes, 7)
    return figure


def one_setting(sweep: Sweep, name: str, axes: Any = None) -> Figure:
    """Draw the goal of each trial against one searched setting.

    Raises:
        ConfigError: The sweep searched no such setting.
    """
    settings = {setting.name: setting for setting in sweep.space}
    if name not in settings:
        raise ConfigError(f"the sweep searched no setting '{name}'{nearest(name, settings)}")
    figure, axes = plots.canvas(axes=axes)
    setting = settings[name]
    values = [str(value) for value in setting.values]
    for trial in sweep.trials:
        if trial.value is None:
            continue
        here = trial.point[name]
        x = values.index(str(here)) if values else here
        fill = plots.STUDENT if trial.state == "complete" else "none"
        axes.scatter(x, trial.value, s=16, facecolors=fill, edgecolors=plots.STUDENT, alpha=0.7)
        if trial.number == sweep.best:
            axes.scatter(x, trial.value, s=90, facecolors="none", edgecolors=plots.TEACHER, linewidths=1.5)
    if values:
        axes.set_xticks(range(len(values)), [plots.shown(value[-18:]) for value in values], rotation=20, ha="right")
    elif setting.logarithmic:
        axes.set_xscale("log")
    elif isinstance(setting.start, int):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(plots.shown(name), fontsize=9, color=plots.INK)
    return figure


def _shown(value: float | str | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
