"""``qkd run-hardware``, and the output of every command about device runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.cli.options import Json, print_json
from qkd.core.console import held, is_quiet, one_line, write
from qkd.hardware.request import DeviceRunRequest

if TYPE_CHECKING:
    from qkd.hardware.plan import Plan
    from qkd.hardware.result import DeviceRun
    from qkd.hardware.service.base import RetryPolicy

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cost and stop; needs no account.")]
NewPlan = Annotated[
    bool, typer.Option("--new-plan", help="Make another plan although one of the same request is unfinished.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once the jobs are submitted.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Submit without asking.")]
Window = Annotated[
    float | None,
    typer.Option(
        "--consistency-window",
        min=0,
        help="Seconds in which qkd looks for the job of an unanswered submission before it submits again: 900, as long "
        "as IBM's client waits for that answer.",
    ),
]


def run_hardware(
    *,
    spec: DeviceRunRequest,
    dry_run: DryRun = False,
    new_plan: NewPlan = False,
    window: Window = None,
    detach: Detach = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Run a student on a device, or rehearse the run.

    The steps are compilation, estimate, question, submission, collection and report.

    Example: qkd run-hardware --run runs/latest --device ibm_fez --local --samples 20
    """
    from qkd.hardware.run import run as run_

    confirm = ask(skip=dry_run or spec.local or yes, silent=json_)
    policy = retry_policy(window)
    device_runs = run_(spec, confirm, detach=detach, dry_run=dry_run, new_plan=new_plan, policy=policy)
    print_device_runs(device_runs, json_)


def ask(skip: bool, silent: bool) -> Callable[[Plan], bool]:
    """Return a function that prints a plan and asks whether to submit it.

    Args:
        skip: Ask no question.
        silent: Print nothing, as with ``--quiet``.
    """
    from qkd.core.errors import QkdError

    def confirm(plan: Plan) -> bool:
        if not (silent or is_quiet()):
            print_plan(plan)
        if skip:
            return True
        if not sys.stdin.isatty():
            raise QkdError("nothing was submitted: give --yes to submit without a question")
        with held():
            return typer.confirm(f"Submit {plan.jobs} job{'s' * (plan.jobs > 1)} to {plan.device}?")

    return confirm


def print_plan(plan: Plan) -> None:
    """Print a plan and its cost."""
    from qkd.reports.tables import aligned

    mitigation = plan.mitigation
    twirls = "" if mitigation.randomizations is None else f", {mitigation.randomizations} twirls"
    what = f"{len(plan.texts)} texts" if plan.request.kind == "predict" else f"{len(plan.values)} circuits"
    write(f"{plan.device}, mitigation {mitigation.name}, {mitigation.shots:,} shots{twirls}, {what}")
    learned = plan.snapshot.calibration.learned
    if learned is not None and plan.request.kind == "predict":
        write(f"predictions and error bars contain the errors learned on {learned.date[:10]}")
    write(aligned(plan.budget.rows()))
    if plan.local:
        write("a rehearsal submits nothing; the device would take these seconds")
    elif plan.budget.remaining is not None:
        write(f"the account has {plan.budget.remaining:,.0f} s left")
    write()


def print_device_runs(device_runs: list[DeviceRun], json_: bool) -> None:
    """Print the results of device runs, and the next command."""
    from qkd.reports import devices
    from qkd.results import LearnedResult, MeasuredResult

    if json_:
        print_json([_facts(run) for run in device_runs])
        return
    results = [run.result for run in device_runs if run.result is not None]
    for result in results:
        if isinstance(result, LearnedResult) and result.file:
            write(f"errors learned by {result.plan}: {result.file}")
    measured = [result for result in results if isinstance(result, MeasuredResult)]
    if measured:
        write(devices.device_table(measured).transposed().to_text())
        if not is_quiet():
            write(f"\n{devices.EXPLANATION}\n")
    for run in device_runs:
        plan, waiting = run.plan, [record for record in run.records if record.open]
        if waiting:
            write(f"{plan.name}: {len(waiting)} of {plan.jobs} jobs have not ended; next: 'qkd jobs collect'")
        for record in run.records:
            if record.reason is not None:
                write(
                    f"{plan.name}: job {record.number + 1} {record.state} ({one_line(record.reason)}); qkd keeps the "
                    f"other results; submit it again with 'qkd jobs collect {plan.name} --resubmit'"
                )
    if results and not any(run.open for run in device_runs):
        write(f"report: {device_runs[-1].plan.folder.parent.parent / 'report.html'}")


def _facts(run: DeviceRun) -> dict[str, object]:
    from qkd.core.files import finite

    plan = run.plan
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
        "jobs": [{"job": r.number, "id": r.id, "state": r.state, "reason": r.reason} for r in run.records],
        "result": None if run.result is None else finite(run.result.to_dict()),
    }


def retry_policy(window: float | None) -> RetryPolicy:
    """Return the retry policy with the user's window."""
    from qkd.hardware.service.base import RetryPolicy

    return RetryPolicy() if window is None else RetryPolicy(window=window)
