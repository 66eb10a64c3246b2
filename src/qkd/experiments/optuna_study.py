"""The study of a search, which Optuna keeps: what it proposes, what it is told, and what it says of all trials.

One process alone, the driver, writes the study: a journal file that Optuna's own tools read.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qkd.core.config import Config
from qkd.core.errors import QkdError
from qkd.experiments.space import Dimension, value_at
from qkd.experiments.specs import SweepSpec
from qkd.results import SweepTrial
from qkd.results.study import ValidationResult, Value

if TYPE_CHECKING:
    import optuna

NAME = "study"
WARMUP = 5
"""Epochs, and trials, before which none is pruned."""
FIRST = 10
"""Trials drawn at random before what is known guides the search; fewer where fewer are asked for."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a worker returns of a trial.

    state, value: see ``SweepTrial``.
    curve: what the search looks at, of each epoch.
    about: what validation texts say of the student.
    """

    state: Literal["complete", "pruned", "failed"]
    value: float | None
    curve: list[float]
    about: ValidationResult


def load_optuna() -> Any:
    """Return Optuna, quiet."""
    try:
        import optuna
    except ImportError:
        raise QkdError("qkd sweep needs Optuna, which is not installed; 'pip install qkd-llm[sweep]' gets it") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def direction(goal: str) -> str:
    """Return where Optuna is to go."""
    return "minimize" if goal == "loss" else "maximize"


def _distribution(dimension: Dimension) -> Any:
    kinds = load_optuna().distributions
    if dimension.values:
        return kinds.CategoricalDistribution(dimension.values)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return kinds.IntDistribution(dimension.low, dimension.high)
    return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.logarithmic)


def open_study(path: Path, space: Sequence[Dimension], spec: SweepSpec) -> optuna.Study:
    """Return the study in a journal file, or a new one."""
    optuna = load_optuna()
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
    study = optuna.create_study(
        storage=storage, study_name=NAME, direction=direction(spec.goal), pruner=pruner(), load_if_exists=True
    )
    request = {"space": [dimension.describe() for dimension in space], "goal": spec.goal, "seed": spec.sweep_seed}
    request |= {"parallel": spec.parallel, "prune": spec.prune}
    earlier_request = study.user_attrs.get("asked")
    if earlier_request not in (None, request):
        raise QkdError(
            f"{path.parent} holds another search ({', '.join(earlier_request['space'])}); give this one a --name"
        )
    if earlier_request is None:
        study.set_user_attr("asked", request)
    return study


def pruner() -> Any:
    """Return the median stopping rule (Golovin et al., Google Vizier, KDD 2017)."""
    return load_optuna().pruners.MedianPruner(n_startup_trials=WARMUP, n_warmup_steps=WARMUP)


def proposed_points(
    before: Sequence[optuna.trial.FrozenTrial], config: Config, space: Sequence[Dimension], spec: SweepSpec
) -> list[dict[str, Value]]:
    """Return the points of the round that follows ``before``, which are all trials of the rounds until then."""
    optuna = load_optuna()
    study = optuna.create_study(direction=direction(spec.goal))
    study.add_trials(before)
    kinds = {dimension.name: _distribution(dimension) for dimension in space}
    own = {dimension.name: value_at(config, dimension.name) for dimension in space}
    if not before and all(dimension.holds(own[dimension.name]) for dimension in space):
        study.enqueue_trial(own)
    points = []
    for number in range(len(before), min(spec.trials, len(before) + spec.parallel)):
        first = min(FIRST, -(-spec.trials // 3))
        study.sampler = optuna.samplers.TPESampler(seed=1000 * spec.sweep_seed + number, n_startup_trials=first)
        points.append(dict(study.ask(kinds).params))
    return points


def finished_trial(
    point: dict[str, Value], space: Sequence[Dimension], outcome: TrialOutcome
) -> optuna.trial.FrozenTrial:
    """Return what a trial came to, as a study keeps it."""
    optuna = load_optuna()
    states = optuna.trial.TrialState
    return optuna.create_trial(
        state={"pruned": states.PRUNED, "failed": states.FAIL, "complete": states.COMPLETE}[outcome.state],
        value=outcome.value,
        params=point,
        distributions={dimension.name: _distribution(dimension) for dimension in space},
        intermediate_values=dict(enumerate(outcome.curve)),
        user_attrs={"about": outcome.about.to_dict()},
    )


def read_trial(trial: optuna.trial.FrozenTrial) -> SweepTrial:
    """Return a trial of the study as ``sweep.json`` has it."""
    states = load_optuna().trial.TrialState
    state = {states.PRUNED: "pruned", states.FAIL: "failed", states.COMPLETE: "complete"}[trial.state]
    about = dict(trial.user_attrs.get("about", {}))
    point = dict(trial.params)
    return SweepTrial.model_validate(
        {**about, "number": trial.number, "point": point, "state": state, "value": trial.value}
    )


def importances(trials: Sequence[SweepTrial], space: Sequence[Dimension], spec: SweepSpec) -> dict[str, float]:
    """Return which share of what trials differ by each dimension explains (fANOVA, Hutter et al., ICML 2014).

    Nothing of fewer than ``FIRST`` whole trials.
    """
    optuna = load_optuna()
    whole = [trial for trial in trials if trial.state == "complete"]
    if len(whole) < FIRST or len({trial.value for trial in whole}) < 2:
        return {}
    study = optuna.create_study(direction=direction(spec.goal))
    kinds = {dimension.name: _distribution(dimension) for dimension in space}
    study.add_trials(
        [optuna.create_trial(params=trial.point, distributions=kinds, value=trial.value) for trial in whole]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=spec.sweep_seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def progress_line(study: optuna.Study) -> str:
    """Return how far the search has come, for the progress bar."""
    trials = study.get_trials(deepcopy=False)
    values = [trial.value for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    if not values:
        return "none whole yet"
    top = min(values) if study.direction.name == "MINIMIZE" else max(values)
    return f"best {top:.3f}, median {statistics.median(values):.3f}"
