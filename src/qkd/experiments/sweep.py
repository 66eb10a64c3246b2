"""A search over a student's settings with Optuna; the test texts judge the best trial at the end.

Optuna's own journal file stores the study, so its dashboard and its command line can read it. Trials are proposed in
rounds of a fixed size, each from a random stream of its own number, and workers prune against the rounds before. The
search is therefore the same on one core, on a cluster, and after a kill.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qkd.core.config import Config
from qkd.core.console import log, progress
from qkd.core.errors import QkdError, require_extra
from qkd.core.runs import RunFolder
from qkd.core.workers import parallel_map
from qkd.experiments.candidates import Candidate
from qkd.experiments.compare import candidate_data, run_with_inputs
from qkd.experiments.space import Dimension, settings_at, value_at
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.experiments.summary import summarize
from qkd.experiments.trial import run_validation
from qkd.pipeline.inputs import Clock, Inputs, prepare_inputs
from qkd.results import Sweep, SweepTrial
from qkd.results.study import SearchedSetting, ValidationResult, Value
from qkd.student.data import TrainingData
from qkd.student.trainer import for_control

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

STUDY_NAME = "study"
PRUNING_START = 5
"""Number of epochs, and of trials, before pruning starts."""
RANDOM_TRIALS = 10
"""Maximum number of random trials before the sampler is used, and number of trials for importances."""


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a worker.

    Attributes:
        state: How the trial ended.
        value: The value that the search optimizes, or None.
        curve: This value after each epoch.
        scores: The student's scores on the validation texts.
    """

    state: Literal["complete", "pruned", "failed"]
    value: float | None
    curve: list[float]
    scores: ValidationResult


def search(config: Config, space: Sequence[Dimension], spec: SweepSpec, folder: RunFolder) -> tuple[Sweep, Config]:
    """Search, judge the best trial on the test texts, and return the result with the best configuration.

    Args:
        config: settings that are not searched, and the start of the search.
        spec: the number of trials, and the value that is optimized.
        folder: the folder of the sweep; the caller holds its lock.
    """
    require_extra("qkd sweep", "sweep", "optuna")
    clock = Clock()
    inputs = prepare_inputs(config, folder, False, clock)
    with clock.stage("search"):
        trials = run_search(config, inputs, space, spec, folder.path)
    top = best_trial(trials, spec)
    best = settings_at(config, top.point)
    encoder = str(top.point["encoder"]) if "encoder" in top.point else None
    students = [
        Candidate("best", best, encoder=encoder),
        Candidate("start", config),
        Candidate("linear", for_control(best), control="linear", encoder=encoder),
    ]
    compared = CompareSpec(students=("best", "start", "linear"), seeds=spec.seeds)
    sweep = Sweep(
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
        judged=summarize(run_with_inputs(inputs, config, students, compared, folder, {}, clock), ""),
        command="",
        again="",
    )
    return sweep, best


def run_search(
    config: Config, inputs: Inputs, space: Sequence[Dimension], spec: SweepSpec, folder: Path
) -> list[SweepTrial]:
    """Run every trial that the study in ``folder`` does not have yet; return all of them.

    Args:
        config: settings that are not searched; the first trial, if it is in the space.
        spec: the number of trials, and the value that is optimized.
    """
    study = open_study(folder / "study.journal", space, spec)
    encoders = sorted({str(value) for dimension in space if dimension.name == "encoder" for value in dimension.values})
    readers = [Candidate("", config), *(Candidate(name, config, encoder=name) for name in encoders)]
    data, _ = candidate_data(inputs, readers, config)
    if study.trials:
        log.info(f"{len(study.trials)} of {spec.trials} trials are finished already")
    with progress("sweep", spec.trials, "trials", len(study.trials)) as bar:
        while (count := len(study.trials)) < spec.trials:
            start = count // spec.parallel * spec.parallel
            before = study.trials[:start]
            points = propose(before, config, space, spec)[count - start :]
            pruned_by = before if spec.prune else None
            tasks = [
                (config, point, data[str(point.get("encoder", ""))], config.train.seed, spec.goal, pruned_by)
                for point in points
            ]
            for point, outcome in zip(points, parallel_map(_run_trial, tasks), strict=True):
                study.add_trial(_frozen_trial(point, space, outcome))
                bar.advance(1, progress_line(study))
    trials = [_sweep_trial(trial) for trial in study.trials[: spec.trials]]
    if not any(trial.state == "complete" for trial in trials):
        raise QkdError(f"every trial failed; the reason of the first: {trials[0].error}")
    return trials


def best_trial(trials: Sequence[SweepTrial], spec: SweepSpec) -> SweepTrial:
    """Return the best complete trial; of equal ones that with the smaller validation loss."""
    sign = 1 if spec.goal == "loss" else -1
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.valid_loss, trial.number))


class _Pruned(Exception):
    """A trial is too far behind to continue."""


def _run_trial(
    config: Config,
    point: Mapping[str, Value],
    data: TrainingData,
    seed: int,
    goal: str,
    before: Sequence[FrozenTrial] | None,
) -> TrialOutcome:
    """Train one student in a worker; trials in ``before`` prune it, None prunes nothing."""
    optuna = load_optuna()
    curve: list[float] = []
    judge = None
    if before is not None:
        study = optuna.create_study(direction=direction(goal), pruner=_pruner())
        study.add_trials(before)
        judge = study.ask()

    def on_epoch(row: dict[str, float]) -> None:
        curve.append(row[f"valid_{goal}"])
        if judge is not None:
            judge.report(curve[-1], len(curve) - 1)
            if judge.should_prune():
                raise _Pruned

    try:
        scores = run_validation(Candidate("trial", settings_at(config, point)), data, seed, on_epoch)
    except _Pruned:
        return TrialOutcome("pruned", curve[-1], curve, ValidationResult(epochs=len(curve)))
    except QkdError as error:
        return TrialOutcome("failed", None, curve, ValidationResult(error=str(error)))
    return TrialOutcome("complete", scores.valid_loss if goal == "loss" else scores.valid_accuracy, curve, scores)


def load_optuna() -> Any:
    """Return Optuna without its log."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def direction(goal: str) -> str:
    """Return Optuna's direction of a goal."""
    return "minimize" if goal == "loss" else "maximize"


def _pruner() -> Any:
    """Return the median stopping rule (Golovin et al., Google Vizier, KDD 2017)."""
    return load_optuna().pruners.MedianPruner(n_startup_trials=PRUNING_START, n_warmup_steps=PRUNING_START)


def _distributions(space: Sequence[Dimension]) -> dict[str, Any]:
    kinds, found = load_optuna().distributions, {}
    for one in space:
        if one.values:
            found[one.name] = kinds.CategoricalDistribution(one.values)
        elif isinstance(one.low, int) and isinstance(one.high, int):
            found[one.name] = kinds.IntDistribution(one.low, one.high)
        else:
            found[one.name] = kinds.FloatDistribution(one.low, one.high, log=one.logarithmic)
    return found


def open_study(path: Path, space: Sequence[Dimension], spec: SweepSpec) -> optuna.Study:
    """Return the study in a journal file, or a new one."""
    optuna = load_optuna()
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():  # a half-written line of a killed process would make the whole file unreadable
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            path.write_bytes(content[: content.rfind(b"\n") + 1])
    Path(f"{path}.lock").unlink(missing_ok=True)  # of a killed process; this one holds the folder's lock
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
    study = optuna.create_study(
        storage=storage, study_name=STUDY_NAME, direction=direction(spec.goal), pruner=_pruner(), load_if_exists=True
    )
    request = {"space": [dimension.describe() for dimension in space], "goal": spec.goal, "seed": spec.sweep_seed}
    request |= {"parallel": spec.parallel, "prune": spec.prune}
    earlier = study.user_attrs.get("request")
    if earlier not in (None, request):
        raise QkdError(f"{path.parent} holds another search ({', '.join(earlier['space'])}); give this one a --name")
    if earlier is None:
        study.set_user_attr("request", request)
    return study


def propose(
    before: Sequence[FrozenTrial], config: Config, space: Sequence[Dimension], spec: SweepSpec
) -> list[dict[str, Value]]:
    """Return the points of the round after ``before``, which are all trials of the earlier rounds."""
    optuna = load_optuna()
    study = optuna.create_study(direction=direction(spec.goal))
    study.add_trials(before)
    start = {dimension.name: value_at(config, dimension.name) for dimension in space}
    if not before and all(dimension.contains(start[dimension.name]) for dimension in space):
        study.enqueue_trial(start)
    kinds, points = _distributions(space), []
    random_trials = min(RANDOM_TRIALS, -(-spec.trials // 3))
    for number in range(len(before), min(spec.trials, len(before) + spec.parallel)):
        seed = 1000 * spec.sweep_seed + number
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=random_trials)
        points.append(dict(study.ask(kinds).params))
    return points


def _frozen_trial(point: dict[str, Value], space: Sequence[Dimension], outcome: TrialOutcome) -> FrozenTrial:
    """Return a finished trial as Optuna stores it."""
    optuna = load_optuna()
    states = {"pruned": "PRUNED", "failed": "FAIL", "complete": "COMPLETE"}
    return optuna.create_trial(
        state=optuna.trial.TrialState[states[outcome.state]],
        value=outcome.value,
        params=point,
        distributions=_distributions(space),
        intermediate_values=dict(enumerate(outcome.curve)),
        user_attrs={"scores": outcome.scores.to_dict()},
    )


def _sweep_trial(trial: FrozenTrial) -> SweepTrial:
    """Return a stored trial as ``sweep.json`` has it."""
    state = {"PRUNED": "pruned", "FAIL": "failed", "COMPLETE": "complete"}[trial.state.name]
    scores, point = dict(trial.user_attrs.get("scores", {})), dict(trial.params)
    return SweepTrial.model_validate(
        {**scores, "number": trial.number, "point": point, "state": state, "value": trial.value}
    )


def importances(trials: Sequence[SweepTrial], space: Sequence[Dimension], spec: SweepSpec) -> dict[str, float]:
    """Return each dimension's share of the variance between trials (fANOVA, Hutter et al., ICML 2014).

    Fewer than ``RANDOM_TRIALS`` complete trials give none.
    """
    optuna = load_optuna()
    complete = [trial for trial in trials if trial.state == "complete"]
    if len(complete) < RANDOM_TRIALS or len({trial.value for trial in complete}) < 2:
        return {}
    study, kinds = optuna.create_study(direction=direction(spec.goal)), _distributions(space)
    study.add_trials(
        [optuna.create_trial(params=trial.point, distributions=kinds, value=trial.value) for trial in complete]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=spec.sweep_seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def progress_line(study: optuna.Study) -> str:
    """Return the best and the median value so far."""
    trials = study.get_trials(deepcopy=False)
    values = [trial.value for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    if not values:
        return "no complete trial yet"
    top = min(values) if study.direction.name == "MINIMIZE" else max(values)
    return f"best {top:.3f}, median {statistics.median(values):.3f}"
