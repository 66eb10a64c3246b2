"""A search over a student's settings: Optuna proposes, workers train, validation texts choose, test texts are kept out.

Trials are proposed in rounds of a fixed size, each from a random stream of its own number, and told in order; a worker
prunes its trial against the rounds before. So the search is the same on one core, on a cluster, and after a kill.
Workers get a task and return numbers, which is all that Ray or another process has to carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qkd.core.config import Config
from qkd.core.console import progress, say
from qkd.core.errors import QkdError
from qkd.core.runs import RunFolder
from qkd.core.workers import parallel_map
from qkd.experiments.candidates import Candidate
from qkd.experiments.compare import lessons_of, trained
from qkd.experiments.optuna_study import (
    TrialOutcome,
    direction,
    finished_trial,
    importances,
    load_optuna,
    open_study,
    progress_line,
    proposed_points,
    pruner,
    read_trial,
)
from qkd.experiments.space import Dimension, settings_at, value_at
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.experiments.summary import summarise
from qkd.experiments.trial import run_validation
from qkd.pipeline.sources import Clock, Sources, gather_sources
from qkd.results import Sweep, SweepTrial
from qkd.results.study import SearchedSetting, ValidationResult
from qkd.student.lesson import Lesson

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Commands:
    """What a person types to go on from a sweep: ``best`` trains its best trial, ``again`` searches again."""

    best: str
    again: str


def search(
    config: Config, space: Sequence[Dimension], spec: SweepSpec, folder: RunFolder, commands: Commands
) -> tuple[Sweep, Config]:
    """Search, judge the best trial on the test texts, and return everything a report says, and its configuration.

    Args:
        config: what is not searched, and where the search starts.
        space: what is searched.
        spec: how long, and by what the best is chosen.
        folder: of the sweep; the caller holds its lock.
        commands: that the report tells.

    Raises:
        QkdError: see ``run_search``.
        KeyboardInterrupt: it was interrupted; trials that were done are kept.
    """
    if config.encoder.whiten and any(dimension.name == "encoder" for dimension in space):
        raise QkdError("--whiten is fitted to one encoder; leave it out, or do not search over encoder")
    clock = Clock()
    sources = gather_sources(config, folder, False, clock)
    with clock.stage("search"):
        trials = run_search(config, sources, space, spec, folder.path)
    top = best_trial(trials, spec)
    best_config = settings_at(config, top.point, folder.path / "circuits")
    encoder = str(top.point["encoder"]) if "encoder" in top.point else None
    students = [
        Candidate("best", best_config, encoder=encoder),
        Candidate("start", config),
        Candidate("linear", best_config, control="linear", encoder=encoder),
    ]
    asked = CompareSpec(students=("best", "start", "linear"), seeds=spec.seeds)
    judged = summarise(trained(sources, config, students, asked, folder, {}, clock), "")
    return Sweep(
        goal=spec.goal,
        space=tuple(
            SearchedSetting(
                name=dimension.name,
                values=dimension.values,
                logarithmic=dimension.logarithmic,
                described=dimension.describe(),
                start=value_at(config, dimension.name),
            )
            for dimension in space
        ),
        trials=tuple(trials),
        best=top.number,
        importances=importances(trials, space, spec),
        judged=judged,
        command=commands.best,
        again=commands.again,
    ), best_config


def run_search(
    config: Config, sources: Sources, space: Sequence[Dimension], spec: SweepSpec, folder: Path
) -> list[SweepTrial]:
    """Do every trial that the study in ``folder`` does not hold yet; return all of them.

    Args:
        config: what is not searched; if it lies in the space it is the first trial.
        sources: texts, teacher and encoder, once for all.
        space: what is searched.
        spec: how long, and by what the best is chosen.
        folder: of the sweep; the caller holds its lock.

    Raises:
        QkdError: Optuna is not installed, the study is of another search, or no trial could be done.
        KeyboardInterrupt: it was interrupted; trials that were done are kept.
    """
    study = open_study(folder / "study.journal", space, spec)
    encoders = sorted({str(value) for dimension in space if dimension.name == "encoder" for value in dimension.values})
    readers = [Candidate("", config), *(Candidate(name, config, encoder=name) for name in encoders)]
    lessons, _ = lessons_of(sources, readers, config)
    if study.trials:
        say(f"{len(study.trials)} of {spec.trials} trials are there already")
    with progress("sweep", spec.trials, "trials", len(study.trials)) as bar:
        while (count := len(study.trials)) < spec.trials:
            start = count // spec.parallel * spec.parallel
            before = study.trials[:start]
            points = proposed_points(before, config, space, spec)[count - start :]
            tasks = [
                (
                    Candidate("trial", settings_at(config, point, folder / "circuits")),
                    lessons[str(point.get("encoder", ""))],
                    config.train.seed,
                    spec.goal,
                    before if spec.prune else None,
                )
                for point in points
            ]
            for point, outcome in zip(points, parallel_map(_run_trial, tasks), strict=True):
                study.add_trial(finished_trial(point, space, outcome))
                bar.advance(1, progress_line(study))
    trials = [read_trial(trial) for trial in study.trials[: spec.trials]]
    if not any(trial.state == "complete" for trial in trials):
        raise QkdError(f"no trial could be done; the first said: {trials[0].error}")
    return trials


def best_trial(trials: Sequence[SweepTrial], spec: SweepSpec) -> SweepTrial:
    """Return the best trial that was not pruned; of equal ones that with the lower validation loss."""
    sign = 1 if spec.goal == "loss" else -1
    whole = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(whole, key=lambda trial: (sign * (trial.value or 0.0), trial.valid_loss, trial.number))


class _Pruned(Exception):
    """A trial is not worth going on with."""


def _run_trial(
    student: Candidate, lesson: Lesson, seed: int, goal: str, before: Sequence[optuna.trial.FrozenTrial] | None
) -> TrialOutcome:
    """Train one student; return its state and numbers. A worker's task.

    Args:
        student: with the trial's settings.
        lesson: what it learns from; its test texts are not looked at.
        seed: of its training.
        goal: ``accuracy`` or ``loss`` of the validation texts.
        before: trials that are done, against which it is pruned; None prunes nothing.
    """
    optuna = load_optuna()
    curve: list[float] = []
    judge = None
    if before is not None:
        study = optuna.create_study(direction=direction(goal), pruner=pruner())
        study.add_trials(before)
        judge = study.ask()

    def on_epoch(row: dict[str, float]) -> None:
        curve.append(row[f"valid_{goal}"])
        if judge is not None:
            judge.report(curve[-1], len(curve) - 1)
            if judge.should_prune():
                raise _Pruned

    try:
        scores = run_validation(student, lesson, seed, on_epoch)
    except _Pruned:
        return TrialOutcome("pruned", curve[-1], curve, ValidationResult(epochs=len(curve)))
    except QkdError as error:
        return TrialOutcome("failed", None, curve, ValidationResult(error=str(error)))
    return TrialOutcome("complete", scores.valid_loss if goal == "loss" else scores.valid_accuracy, curve, scores)
