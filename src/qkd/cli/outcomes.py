"""Printed plans and results of device runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.core.console import write

if TYPE_CHECKING:
    from qkd.hardware.patience import Patience
    from qkd.hardware.plan import Plan
    from qkd.hardware.run import Outcome

Window = Annotated[
    float | None,
    typer.Option(
        "--consistency-window",
        min=0,
        help="Seconds during which qkd searches for a job whose submission had no answer, before it resubmits. "
        "Default: 900, the time that IBM's client waits for the answer.",
    ),
]


def asked(unasked: bool, silent: bool) -> Callable[[Plan], bool]:
    """Return what shows a plan and asks whether it is sent.

    Args:
        unasked: go on without a question.
        silent: show nothing.
    """
    from qkd.core.errors import QkdError

    def confirm(plan: Plan) -> bool:
        if not silent:
            print_plan(plan)
        if unasked:
            return True
        if not sys.stdin.isatty():
            raise QkdError("nothing was sent: say --yes to send it without being asked")
        return typer.confirm(f"Send {plan.jobs} job{'s' * (plan.jobs > 1)} to {plan.device}?")

    return confirm


def print_plan(plan: Plan) -> None:
    """Print what a plan costs."""
    from qkd.reports.tables import aligned

    mitigation = plan.mitigation
    twirls = "" if mitigation.randomizations is None else f", {mitigation.randomizations} twirls"
    shots = f"{mitigation.shots:,} shots"
    what = f"{len(plan.texts)} texts" if plan.purpose == "predict" else f"{len(plan.values)} circuits"
    write(f"{plan.device}, mitigation {mitigation.name}, {shots}{twirls}, {what}")
    learned = plan.snapshot.calibration.learned
    if learned is not None and plan.purpose == "predict":
        write(f"forecasts and error bars include errors learned on {learned.date[:10]}")
    write(aligned(plan.budget.rows()))
    if plan.local:
        write("on its snapshot: nothing is sent, and these are the seconds that the device would take")
    elif plan.budget.remaining is not None:
        write(f"the account has {plan.budget.remaining:,.0f} s left")
    write()


def print_outcomes(outcomes: list[Outcome], json_: bool) -> None:
    """Print the results of device runs and the next command."""
    from qkd.reports import devices
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult, MeasuredResult

    if json_:
        write(json.dumps([_facts(outcome) for outcome in outcomes], indent=2))
        return
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    for result in results:
        if isinstance(result, LearnedResult) and result.file:
            write(f"what {result.plan} learned: {result.file}")
    measured = [result for result in results if isinstance(result, MeasuredResult)]
    if measured:
        cells = list(zip(*[devices.COLUMNS, *devices.device_rows(measured)], strict=True))
        write(aligned([("", *(result.mitigation.name for result in measured)), *map(tuple, cells)]))
    for outcome in outcomes:
        plan, waiting = outcome.plan, [record for record in outcome.records if record.open]
        if waiting:
            write(f"{plan.name}: {len(waiting)} of {plan.jobs} jobs are on their way; next: 'qkd jobs collect'")
        for record in outcome.records:
            if record.reason is not None:
                write(
                    f"{plan.name}: job {record.number + 1} {record.state} ({record.reason}); the results of the others "
                    f"are saved; resubmit it with 'qkd jobs collect {plan.name} --resubmit'"
                )
    if results and not any(record.open for outcome in outcomes for record in outcome.records):
        write(f"report: {outcomes[-1].plan.folder.parent.parent / 'report.html'}")


def _facts(outcome: Outcome) -> dict[str, object]:
    from qkd.core.files import finite

    plan = outcome.plan
    stages = [
        {"stage": stage.name, "jobs": stage.jobs, "executions": stage.executions, "seconds": stage.seconds}
        for stage in plan.budget.stages
    ]
    learned = plan.snapshot.calibration.learned
    return {
        "plan": plan.name,
        "device": plan.device,
        "learned": None if learned is None else learned.date,
        "budget": {"stages": stages, "seconds": plan.budget.seconds, "remaining": plan.budget.remaining},
        "jobs": [{"job": r.number, "id": r.id, "state": r.state, "reason": r.reason} for r in outcome.records],
        "result": None if outcome.result is None else finite(outcome.result.to_dict()),
    }


def patience(window: float | None) -> Patience:
    """Return how long is waited, with a window of the user's."""
    from qkd.hardware.patience import Patience

    return Patience() if window is None else Patience(window=window)
