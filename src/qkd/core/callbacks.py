"""Callbacks of a caller, and trackers of experiments, which are callbacks themselves.

A callback is an object with any of the methods of ``Callback``. One that fails is reported once and then omitted, so
that it cannot end a training or a device run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qkd.core.console import log
from qkd.core.errors import ConfigError

METHODS = ("on_stage", "on_epoch", "on_job")
Numbers = Mapping[str, float]
_active: ContextVar[tuple[Any, ...]] = ContextVar("callbacks", default=())


class Callback:
    """A callback that ignores everything; a subclass overrides what it needs."""

    def on_stage(self, stage: str, numbers: Numbers) -> None:
        """Receive the end of a stage (``data``, ``encoder``, ``teacher``, ``training``, ..., ``test``).

        Args:
            stage: Name of the stage.
            numbers: Seconds of the stage. For ``test``, the accuracies of teacher, student and controls.
        """

    def on_epoch(self, training: str, epoch: int, numbers: Numbers) -> None:
        """Receive the end of an epoch.

        Args:
            training: Name of the training: ``training`` for the student, or an ablation, a control or a seed.
            epoch: Number of the epoch, from 1.
            numbers: The loss and its terms, validation loss and validation accuracy.
        """

    def on_job(self, plan: str, event: str, facts: Mapping[str, Any]) -> None:
        """Receive a change of a device run, such as a submission or a result.

        Args:
            plan: Name of the device run.
            event: Name of the change, as in the ledger.
            facts: Number and id of the job, and what else the ledger holds of the change.
        """

    def close(self) -> None:
        """End the tracking."""


@contextmanager
def calling(callbacks: Sequence[Any]) -> Iterator[None]:
    """Call these callbacks in the block, beside those that are active already.

    Raises:
        ConfigError: One has none of the methods.
    """
    if isinstance(callbacks, str | bytes) or not isinstance(callbacks, Sequence):
        raise ConfigError(
            f"callbacks is a {type(callbacks).__name__}; give a list of objects with {', '.join(METHODS)}"
        )
    for callback in callbacks:
        if isinstance(callback, type) or not any(callable(getattr(callback, name, None)) for name in METHODS):
            kind = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise ConfigError(f"a callback is a {kind}; give an object with one of {', '.join(METHODS)}")
    token = _active.set((*_active.get(), *callbacks))
    try:
        yield
    finally:
        _active.reset(token)


def notify(method: str, *arguments: Any) -> None:
    """Call a method of all active callbacks that have it."""
    for callback in _active.get():
        function = getattr(callback, method, None)
        if not callable(function):
            continue
        try:
            function(*arguments)
        except Exception as error:  # the caller's code
            log.warning(
                f"the callback {type(callback).__name__} failed and is omitted: {type(error).__name__}: {error}"
            )
            _active.set(tuple(other for other in _active.get() if other is not callback))


class TensorBoard(Callback):
    """Writes event files into ``runs/NAME/tensorboard``."""

    package, install = "tensorboard", "tensorboard"

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"))
        self._writer.add_text("settings", "\n".join(f"    {key} = {value}" for key, value in settings.items()))

    def on_stage(self, stage: str, numbers: Numbers) -> None:
        """Write the numbers of a stage."""
        for key, value in numbers.items():
            self._writer.add_scalar(f"{stage}/{key}", value)

    def on_epoch(self, training: str, epoch: int, numbers: Numbers) -> None:
        """Write the numbers of an epoch."""
        for key, value in numbers.items():
            self._writer.add_scalar(f"{training}/{key}", value, epoch)

    def on_job(self, plan: str, event: str, facts: Mapping[str, Any]) -> None:
        """Write the change of a job as text."""
        self._writer.add_text(f"jobs/{plan}", f"{event} {dict(facts)}")

    def close(self) -> None:
        """Close the event files."""
        self._writer.close()


class _Logged(Callback, ABC):
    """A tracker with one function for numbers by name."""

    @abstractmethod
    def log(self, numbers: Numbers, step: int | None) -> None:
        """Send numbers."""

    def on_stage(self, stage: str, numbers: Numbers) -> None:
        """Send the numbers of a stage."""
        self.log({f"{stage}/{key}": value for key, value in numbers.items()}, None)

    def on_epoch(self, training: str, epoch: int, numbers: Numbers) -> None:
        """Send the numbers of an epoch."""
        self.log({f"{training}/{key}": value for key, value in numbers.items()}, epoch)

    def on_job(self, plan: str, event: str, facts: Mapping[str, Any]) -> None:
        """Send the numbers of a job's change."""
        known = {key: value for key, value in facts.items() if isinstance(value, int | float)}
        self.log({f"jobs/{plan}/{event}/{key}": float(value) for key, value in known.items()}, None)


class MLflow(_Logged):
    """Logs to the server or folder that MLflow is set to."""

    package, install = "mlflow", "mlflow-skinny"

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._client = import_module("mlflow").MlflowClient()
        found = self._client.get_experiment_by_name("qkd")
        experiment = self._client.create_experiment("qkd") if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, str(value)[:500])

    def log(self, numbers: Numbers, step: int | None) -> None:
        """Log numbers of a step."""
        for key, value in numbers.items():
            self._client.log_metric(self._run, key, value, step=step or 0)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


class WandB(_Logged):
    """Logs to Weights & Biases, or into ``runs/NAME/wandb`` with ``WANDB_MODE=offline``."""

    package, install = "wandb", "wandb"

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        wandb = import_module("wandb")
        self._run = wandb.init(project="qkd", name=name, config=dict(settings), dir=str(folder), reinit="create_new")

    def log(self, numbers: Numbers, step: int | None) -> None:
        """Log numbers; the epoch is one of them, because several trainings count their own."""
        self._run.log({**numbers, **({} if step is None else {"epoch": step})})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class Trackio(_Logged):
    """Logs to trackio's local database."""

    package, install = "trackio", "trackio"

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        self._trackio = import_module("trackio")
        self._trackio.init(project="qkd", name=name, config={key: str(value) for key, value in settings.items()})

    def log(self, numbers: Numbers, step: int | None) -> None:
        """Log numbers; the epoch is one of them, because several trainings count their own."""
        self._trackio.log({**numbers, **({} if step is None else {"epoch": step})})

    def close(self) -> None:
        """Finish the run."""
        self._trackio.finish()


TRACKERS: dict[str, Any] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB, "trackio": Trackio}


@contextmanager
def tracking(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Call the trackers with these names in the block.

    Args:
        names: Keys of ``TRACKERS``.
        folder: The run folder.
        settings: The settings of the run by name.

    Raises:
        ConfigError: A tracker is not installed or does not start.
    """
    trackers: list[Callback] = []
    try:
        for name in names:
            kind = TRACKERS[name]
            if find_spec(kind.package) is None:
                raise ConfigError(f"--track {name}: it is not installed; 'pip install {kind.install}' gets it")
            try:
                trackers.append(kind(folder, folder.name, settings))
            except Exception as error:  # the tracker's code
                raise ConfigError(f"--track {name}: it does not start ({type(error).__name__}: {error})") from None
        with calling(trackers):
            yield
    finally:
        for tracker in trackers:
            try:
                tracker.close()
            except Exception as error:  # the tracker's code
                log.warning(f"the tracker {type(tracker).__name__} did not end: {type(error).__name__}: {error}")
