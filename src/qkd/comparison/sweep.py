"""A search over a student's settings: Optuna proposes, workers train, validation texts choose, test texts are kept out.

Trials are proposed in rounds of a fixed size, each from a random stream of its own number, and told in order; a worker
prunes its trial against the rounds before. So the search is the same on one core, on a cluster, and after a kill. One
process alone, the driver, writes the study (a journal file that Optuna's own tools read); workers get a task and return
numbers, which is all that Ray or another process has to carry.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qkd.comparison.compare import lessons_of, trained
from qkd.comparison.contestants import Contestant
from qkd.comparison.space import Dimension, of, settings_at
from qkd.comparison.specs import CompareSpec, SweepSpec
from qkd.comparison.summary import summarise
from qkd.comparison.trial import validated
from qkd.config import Config
from qkd.console import progress, say
from qkd.errors import QkdError
from qkd.results import Searched, Sweep, SweepTrial, Validated
from qkd.results.study import Value
from qkd.runs import RunFolder
from qkd.sources import Clock, Sources, gather
from qkd.student.lesson import Lesson
from qkd.workers import spread

if TYPE_CHECKING:
    import optuna

NAME = "study"
WARMUP = 5
"""Epochs, and trials, before which none is pruned."""
FIRST = 10
"""Trials drawn at random before what is known guides the search; fewer where fewer are asked for."""


@dataclass(frozen=True)
class Outcome:
    """What a worker returns of a trial.

    state, value: see ``SweepTrial``.
    curve: what the search looks at, of each epoch.
    about: what validation texts say of the student.
    """

    state: Literal["complete", "pruned", "failed"]
    value: float | None
    curve: list[float]
    about: Validated


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
        QkdError: see ``run``.
        KeyboardInterrupt: it was interrupted; trials that were told are kept.
    """
    if config.encoder.whiten and any(one.name == "encoder" for one in space):
        raise QkdError("--whiten is fitted to one encoder; leave it out, or do not search over encoder")
    clock = Clock()
    sources = gather(config, folder, False, clock)
    with clock.stage("search"):
        trials = run(config, sources, space, spec, folder.path)
    top = best(trials, spec)
    found = settings_at(config, top.point, folder.path / "circuits")
    encoder = str(top.point["encoder"]) if "encoder" in top.point else None
    students = [
        Contestant("best", found, encoder=encoder),
        Contestant("start", config),
        Contestant("linear", found, control="linear", encoder=encoder),
    ]
    asked = CompareSpec(students=("best", "start", "linear"), seeds=spec.seeds)
    judged = summarise(trained(sources, config, students, asked, folder, {}, clock), "")
    return Sweep(
        goal=spec.goal,
        space=tuple(
            Searched(
                name=one.name,
                values=one.values,
                logarithmic=one.logarithmic,
                described=one.describe(),
                start=of(config, one.name),
            )
            for one in space
        ),
        trials=tuple(trials),
        best=top.number,
        importances=importances(trials, space, spec),
        judged=judged,
        command=commands.best,
        again=commands.again,
    ), found


def run(
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
        KeyboardInterrupt: it was interrupted; trials that were told are kept.
    """
    kept = _opened(folder / "study.journal", space, spec)
    encoders = sorted({str(value) for one in space if one.name == "encoder" for value in one.values})
    readers = [Contestant("", config), *(Contestant(name, config, encoder=name) for name in encoders)]
    lessons, _ = lessons_of(sources, readers, config)
    if kept.trials:
        say(f"{len(kept.trials)} of {spec.trials} trials are there already")
    with progress("sweep", spec.trials, "trials", len(kept.trials)) as bar:
        while (count := len(kept.trials)) < spec.trials:
            start = count // spec.parallel * spec.parallel
            before = kept.trials[:start]
            points = _proposed(before, config, space, spec)[count - start :]
            tasks = [
                (
                    Contestant("trial", settings_at(config, point, folder / "circuits")),
                    lessons[str(point.get("encoder", ""))],
                    config.train.seed,
                    spec.goal,
                    before if spec.prune else None,
                )
                for point in points
            ]
            for point, outcome in zip(points, spread(_trial, tasks), strict=True):
                kept.add_trial(_frozen(point, space, outcome))
                bar.advance(1, _best_so_far(kept))
    trials = [_read(trial) for trial in kept.trials[: spec.trials]]
    if not any(trial.state == "complete" for trial in trials):
        raise QkdError(f"no trial could be done; the first said: {trials[0].error}")
    return trials


def best(trials: Sequence[SweepTrial], spec: SweepSpec) -> SweepTrial:
    """Return the best trial that was not pruned; of equal ones that with the lower validation loss."""
    sign = 1 if spec.goal == "loss" else -1
    whole = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(whole, key=lambda trial: (sign * (trial.value or 0.0), trial.valid_loss, trial.number))


def importances(trials: Sequence[SweepTrial], space: Sequence[Dimension], spec: SweepSpec) -> dict[str, float]:
    """Return which share of what trials differ by each dimension explains (fANOVA, Hutter et al., ICML 2014).

    Nothing of fewer than ``FIRST`` whole trials.
    """
    optuna = _optuna()
    whole = [trial for trial in trials if trial.state == "complete"]
    if len(whole) < FIRST or len({trial.value for trial in whole}) < 2:
        return {}
    study = optuna.create_study(direction=_direction(spec))
    kinds = {one.name: _distribution(one) for one in space}
    study.add_trials(
        [optuna.create_trial(params=trial.point, distributions=kinds, value=trial.value) for trial in whole]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=spec.seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _optuna() -> Any:
    """Return Optuna, quiet."""
    try:
        import optuna
    except ImportError:
        raise QkdError("qkd sweep needs Optuna, which is not installed; 'pip install qkd[sweep]' gets it") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _direction(spec: SweepSpec) -> str:
    return "minimize" if spec.goal == "loss" else "maximize"


def _distribution(one: Dimension) -> Any:
    kinds = _optuna().distributions
    if one.values:
        return kinds.CategoricalDistribution(one.values)
    if isinstance(one.low, int) and isinstance(one.high, int):
        return kinds.IntDistribution(one.low, one.high)
    return kinds.FloatDistribution(one.low, one.high, log=one.logarithmic)


def _opened(path: Path, space: Sequence[Dimension], spec: SweepSpec) -> optuna.Study:
    """Return the study in a journal file, or a new one."""
    optuna = _optuna()
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():  # a line that a kill left half written would make the whole file unreadable
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])
    Path(f"{path}.lock").unlink(missing_ok=True)  # of a killed driver; the folder's own lock is held
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
    pruner = _pruner()
    study = optuna.create_study(
        storage=storage, study_name=NAME, direction=_direction(spec), pruner=pruner, load_if_exists=True
    )
    asked = {"space": [one.describe() for one in space], "goal": spec.goal, "seed": spec.seed}
    asked |= {"parallel": spec.parallel, "prune": spec.prune}
    known = study.user_attrs.get("asked")
    if known not in (None, asked):
        raise QkdError(f"{path.parent} holds another search ({', '.join(known['space'])}); give this one a --name")
    if known is None:
        study.set_user_attr("asked", asked)
    return study


def _pruner() -> Any:
    """Return the median stopping rule (Golovin et al., Google Vizier, KDD 2017)."""
    return _optuna().pruners.MedianPruner(n_startup_trials=WARMUP, n_warmup_steps=WARMUP)


def _proposed(
    before: Sequence[optuna.trial.FrozenTrial], config: Config, space: Sequence[Dimension], spec: SweepSpec
) -> list[dict[str, Value]]:
    """Return the points of the round that follows ``before``, which are all trials of the rounds until then."""
    optuna = _optuna()
    study = optuna.create_study(direction=_direction(spec))
    study.add_trials(before)
    kinds = {one.name: _distribution(one) for one in space}
    own = {one.name: of(config, one.name) for one in space}
    if not before and all(one.holds(own[one.name]) for one in space):
        study.enqueue_trial(own)
    found = []
    for number in range(len(before), min(spec.trials, len(before) + spec.parallel)):
        first = min(FIRST, -(-spec.trials // 3))
        study.sampler = optuna.samplers.TPESampler(seed=1000 * spec.seed + number, n_startup_trials=first)
        found.append(dict(study.ask(kinds).params))
    return found


class _Pruned(Exception):
    """A trial is not worth going on with."""


def _trial(
    student: Contestant, lesson: Lesson, seed: int, goal: str, before: Sequence[optuna.trial.FrozenTrial] | None
) -> Outcome:
    """Train one student; return its state and numbers. A worker's task.

    Args:
        student: with the trial's settings.
        lesson: what it learns from; its test texts are not looked at.
        seed: of its training.
        goal: ``accuracy`` or ``loss`` of the validation texts.
        before: trials that are done, against which it is pruned; None prunes nothing.
    """
    optuna = _optuna()
    curve: list[float] = []
    judge = None
    if before is not None:
        study = optuna.create_study(direction="minimize" if goal == "loss" else "maximize", pruner=_pruner())
        study.add_trials(before)
        judge = study.ask()

    def on_epoch(row: dict[str, float]) -> None:
        curve.append(row[f"valid_{goal}"])
        if judge is not None:
            judge.report(curve[-1], len(curve) - 1)
            if judge.should_prune():
                raise _Pruned

    try:
        found = validated(student, lesson, seed, on_epoch)
    except _Pruned:
        return Outcome("pruned", curve[-1], curve, Validated(epochs=len(curve)))
    except QkdError as error:
        return Outcome("failed", None, curve, Validated(error=str(error)))
    return Outcome("complete", found[f"valid_{goal}"], curve, found)


def _frozen(point: dict[str, Value], space: Sequence[Dimension], outcome: Outcome) -> optuna.trial.FrozenTrial:
    """Return what a trial came to, as a study keeps it."""
    optuna = _optuna()
    states = optuna.trial.TrialState
    return optuna.create_trial(
        state={"pruned": states.PRUNED, "failed": states.FAIL, "complete": states.COMPLETE}[outcome.state],
        value=outcome.value,
        params=point,
        distributions={one.name: _distribution(one) for one in space},
        intermediate_values=dict(enumerate(outcome.curve)),
        user_attrs={"about": outcome.about.to_json()},
    )


def _read(trial: optuna.trial.FrozenTrial) -> SweepTrial:
    states = _optuna().trial.TrialState
    state = {states.PRUNED: "pruned", states.FAIL: "failed", states.COMPLETE: "complete"}[trial.state]
    about = dict(trial.user_attrs.get("about", {}))
    point = dict(trial.params)
    return SweepTrial.model_validate(
        {**about, "number": trial.number, "point": point, "state": state, "value": trial.value, "about": about}
    )


def _best_so_far(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    values = [trial.value for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    if not values:
        return "none whole yet"
    top = min(values) if study.direction.name == "MINIMIZE" else max(values)
    return f"best {top:.3f}, median {statistics.median(values):.3f}"
