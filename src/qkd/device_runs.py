"""Device runs in Python: ``run_hardware`` and ``learn``. They submit a plan only after the caller has confirmed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from qkd.core.arguments import public
from qkd.core.callbacks import calling
from qkd.core.errors import ConfigError, nearest
from qkd.core.options import DeviceRunOptions, LearningOptions

if TYPE_CHECKING:
    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime import QiskitRuntimeService

    from qkd.hardware.plan import Plan
    from qkd.hardware.request import BaseRequest
    from qkd.hardware.result import DeviceRun
    from qkd.opened import Run

    R = TypeVar("R", bound=BaseRequest)


@public
def run_hardware(
    run: str | Path | Run = "runs/latest",
    *,
    confirm: Callable[[Plan], bool] | None = None,
    detach: bool = False,
    dry_run: bool = False,
    backend: BackendV2 | None = None,
    service: QiskitRuntimeService | None = None,
    callbacks: Sequence[Any] = (),
    quiet: bool = False,
    **options: Unpack[DeviceRunOptions],
) -> list[DeviceRun]:
    """Run a student on a device, or rehearse that on its snapshot: compile, estimate, confirm, submit, collect, report.

    Args:
        run: A run or its folder.
        confirm: Receives each plan with its budget before it is submitted, and returns whether to submit it. A
            rehearsal (``local=True``) and a ``dry_run`` need none.
        detach: Return once the jobs are submitted; ``qkd.hardware.collect`` continues.
        dry_run: Stop after the estimate.
        backend: The device as an object: any ``BackendV2``. One of another provider than IBM runs through Qiskit's
            ``BackendEstimatorV2``, with mitigation ``none`` or ``affine``. ``device`` takes it, too.
        service: Your client of IBM Quantum, which has the device; one with the stored account if None.
        callbacks: Objects with ``on_job``; see ``qkd.Callback``.
        quiet: Print warnings only.
        options: Fields of ``qkd.hardware.DeviceRunRequest``: ``device="ibm_fez"``, ``local=True``, ``samples=20``, ...

    Returns:
        One device run for each requested mitigation.

    Raises:
        QkdError: Something does not fit or costs too much, or the service refuses or does not answer.
    """
    from qkd.hardware.request import DeviceRunRequest, check_objects
    from qkd.hardware.run import run as run_

    device = options.get("device")
    if device is not None and backend is not None:
        raise ConfigError("device and backend are two names of one setting; give one of them")
    if device is not None and not isinstance(device, str | Path):
        backend = device
        options = {**options, "device": None}
    check_objects(backend, service)
    request = _request(DeviceRunRequest, {**options, "run": _folder(run)}, confirm, dry_run)
    confirm = confirm or (lambda plan: True)
    with calling(callbacks):
        return run_(request, confirm, detach=detach, dry_run=dry_run, own=backend or service)


@public
def learn(
    device: str,
    run: str | Path | Run = "runs/latest",
    *,
    confirm: Callable[[Plan], bool] | None = None,
    detach: bool = False,
    dry_run: bool = False,
    service: QiskitRuntimeService | None = None,
    callbacks: Sequence[Any] = (),
    quiet: bool = False,
    **options: Unpack[LearningOptions],
) -> DeviceRun:
    """Learn errors that a device's calibration omits, coherent errors above all, from a few circuits of a run.

    The result's ``file`` is a snapshot file that every ``device=`` accepts.

    Args:
        device: Its name, or a snapshot's with ``local=True``.
        run: The run, or its folder, whose circuit and region are used.
        confirm: See ``run_hardware``.
        detach: See ``run_hardware``.
        dry_run: See ``run_hardware``.
        service: See ``run_hardware``.
        callbacks: See ``run_hardware``.
        quiet: Print warnings only.
        options: Fields of ``qkd.hardware.LearningRequest``: ``points=256``, ``shots=128``, ...

    Raises:
        QkdError: See ``run_hardware``.
    """
    from qkd.hardware.request import LearningRequest, check_objects
    from qkd.hardware.run import run as run_

    request = _request(LearningRequest, {**options, "run": _folder(run), "device": device}, confirm, dry_run)
    check_objects(None, service)
    confirm = confirm or (lambda plan: True)
    with calling(callbacks):
        return run_(request, confirm, detach=detach, dry_run=dry_run, own=service)[0]


def _folder(run: str | Path | Run) -> str | Path:
    return run if isinstance(run, str | Path) else run.folder.path


def _request(kind: type[R], options: Mapping[str, Any], confirm: object, dry_run: bool) -> R:
    """Return the request that options describe, if something may be submitted without a question."""
    from qkd.core.specs import validated

    known = [name for name in kind.model_fields if name != "kind"]
    for option in options:
        if option not in known:
            raise ConfigError(f"there is no option '{option}'{nearest(option, known)}")
    if options.get("device") == "":
        raise ConfigError("the device's name is empty; give a name, a snapshot file or a BackendV2")
    if confirm is None and not (options.get("local") or dry_run):
        raise ConfigError("nothing was submitted; give a limit, such as confirm=lambda plan: plan.budget.seconds < 60")
    return validated(kind, options, "device run")
