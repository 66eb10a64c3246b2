"""A run on a device, as a notebook asks for it: ``run_hardware``, ``learn``.

Thin, as ``api`` is; nothing is sent that nobody has agreed to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qkd.hardware.plan import Plan
    from qkd.hardware.run import Outcome


def run_hardware(
    run: str | Path = "runs/latest",
    *,
    confirm: Callable[[Plan], bool] | None = None,
    detach: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> list[Outcome]:
    """Run a student on a device, or rehearse that on its snapshot: compile, estimate, ask, send, collect, report.

    Args:
        run: a run folder.
        confirm: is shown each plan with its budget before it is sent, and says whether to go on; a rehearsal
            (``local=True``) and a ``dry_run`` need none.
        detach: return once the jobs are sent; ``qkd.hardware.collect`` goes on.
        dry_run: stop after the estimate.
        options: the fields of ``qkd.hardware.Order``: ``device="ibm_fez"``, ``local=True``, ``samples=20``, ...

    Returns:
        One outcome for each mitigation asked for.

    Raises:
        QkdError: something does not fit, costs too much, or the service refuses or stays away.
    """
    from qkd.hardware.order import Order
    from qkd.hardware.run import run as run_

    _sendable(Order, options, confirm, dry_run)
    shots = options.get("shots")
    order = Order(**options | {"run": Path(run), "shots": None if shots is None else str(shots)})
    return run_(order, confirm or (lambda plan: True), detach, dry_run)


def learn(
    device: str,
    run: str | Path = "runs/latest",
    *,
    confirm: Callable[[Plan], bool] | None = None,
    detach: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> Outcome:
    """Learn what a device's calibration does not tell, coherent errors above all, from a few circuits of a run.

    The outcome's ``result["file"]`` is a snapshot file that every ``device=`` takes.

    Args:
        device: its name, or a snapshot's with ``local=True``.
        run: the run folder whose circuit and region are used.
        confirm: as in ``run_hardware``.
        detach: as in ``run_hardware``.
        dry_run: as in ``run_hardware``.
        options: the fields of ``qkd.hardware.LearningOrder``: ``points=256``, ``shots=128``, ...

    Raises:
        QkdError: as ``run_hardware``.
    """
    from qkd.hardware.learning import LearningOrder
    from qkd.hardware.run import run as run_

    _sendable(LearningOrder, options, confirm, dry_run)
    order = LearningOrder(Path(run), device, **options)
    return run_(order, confirm or (lambda plan: True), detach, dry_run)[0]


def _sendable(spec: type, options: Mapping[str, object], confirm: object, dry_run: bool) -> None:
    """Refuse options that a spec does not have, and what nobody has agreed to send."""
    from dataclasses import fields

    known = [field.name for field in fields(spec) if field.name != "run"]
    for option in options:
        if option not in known:
            raise ConfigError(f"there is no option '{option}'{nearest(option, known)}")
    if confirm is None and not (options.get("local") or dry_run):
        raise ConfigError(
            "nothing was sent: say what may be sent, such as confirm=lambda plan: plan.budget.seconds < 60"
        )
