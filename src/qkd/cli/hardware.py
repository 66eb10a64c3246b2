"""``qkd run-hardware`` and ``qkd jobs list|show|collect|cancel``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkd.cli.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from qkd.hardware.plan import Plan
    from qkd.hardware.run import Outcome

LATEST = Path("runs/latest")
Run = Annotated[Path, typer.Option(help="A run folder.")]
Name = Annotated[str | None, typer.Argument(help="A device run, hw-1; all that are not finished when left out.")]

app = typer.Typer(no_args_is_help=True, help="Jobs of device runs: list, show, collect and cancel them.")


def run_hardware(
    run: Run = LATEST,
    device: Annotated[str | None, typer.Option(help="The device, ibm_fez; the run's own when left out.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Rehearse on the device's snapshot, with AerSimulator.")
    ] = False,
    mitigation: Annotated[
        str | None, typer.Option(help="none, readout, affine, zne, pea, pec, or all; the profile's when left out.")
    ] = None,
    client: Annotated[
        bool, typer.Option("--client", help="With --local: let IBM's client simulate every twirl, slowly.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Test texts, stratified by label; all if left out.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Texts of your own: a .txt file, one a line, or a table.")] = None,
    text_column: Annotated[str, typer.Option(help="The column of the file that holds the texts.")] = "text",
    shots: Annotated[
        str | None, typer.Option(help="Shots per expectation value, auto, or adaptive; else the profile's.")
    ] = None,
    target_stderr: Annotated[float | None, typer.Option(help="The standard error wanted, in place of --shots.")] = None,
    max_qpu_seconds: Annotated[float | None, typer.Option(help="Refuse a run above this; else the profile's.")] = None,
    mode: Annotated[str | None, typer.Option(help="job, batch or session; the profile's when left out.")] = None,
    profile: Annotated[str | None, typer.Option(help="The transpile profile; the device's own when left out.")] = None,
    randomizations: Annotated[int | None, typer.Option(min=1, help="Twirls that the shots are spread over.")] = None,
    decoupling: Annotated[str | None, typer.Option(help="none, XX, XpXm or XY4; else the profile's.")] = None,
    twirl_gates: Annotated[bool, typer.Option("--twirl-gates", help="Twirl two-qubit gates.")] = False,
    seed: Annotated[int, typer.Option(help="The seed that draws --samples.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the estimate.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the jobs are sent.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Send without asking.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a student on a device, or rehearse that: compile, estimate, ask, send, collect, report."""
    from qkd.errors import QkdError
    from qkd.hardware.order import Order
    from qkd.hardware.run import run as run_

    order = Order(
        run=run,
        device=device,
        local=local,
        mitigation=mitigation,
        shots=shots,
        target_stderr=target_stderr,
        samples=samples,
        client=client,
        file=file,
        text_column=text_column,
        profile=profile,
        max_qpu_seconds=max_qpu_seconds,
        mode=mode,
        randomizations=randomizations,
        decoupling=decoupling,
        twirl_gates=twirl_gates,
        seed=seed,
    )

    def confirm(plan: Plan) -> bool:
        if not quiet and not json_:
            _tell(plan)
        if dry_run or local or yes:
            return True
        if not sys.stdin.isatty():
            raise QkdError("nothing was sent: say --yes to send it without being asked")
        return typer.confirm(f"Send {plan.jobs} job{'s' * (plan.jobs > 1)} to {plan.device}?")

    outcomes = run_(order, confirm, detach, dry_run)
    _print(outcomes, json_)


def _tell(plan: Plan) -> None:
    """Print what a plan costs."""
    from qkd.reports.compare import aligned

    told = plan.mitigation
    twirls = "" if told.randomizations is None else f", {told.randomizations} twirls"
    shots = f"adaptive shots from {told.shots}" if plan.rounds else f"{told.shots:,} shots"
    print(f"{plan.device}, mitigation {told.name}, {shots}{twirls}, {len(plan.texts)} texts")
    print(aligned(plan.budget.rows()))
    if plan.local:
        print("on its snapshot: nothing is sent, and these are the seconds that the device would take")
    elif plan.budget.remaining is not None:
        print(f"the account has {plan.budget.remaining:,.0f} s left")
    print()


def _print(outcomes: list[Outcome], json_: bool) -> None:
    from qkd.reports import devices
    from qkd.reports.compare import aligned

    if json_:
        print(json.dumps([_facts(one) for one in outcomes], indent=2))
        return
    results = [one.result for one in outcomes if one.result is not None]
    if any(one["texts"] for one in results):
        cells = list(zip(*[devices.COLUMNS, *devices.rows(results)], strict=True))
        print(aligned([("", *(f"{one['mitigation']['name']}" for one in results if one["texts"])), *map(tuple, cells)]))
    for told in results:
        if told["texts"] and len(told["shots"]["texts"]) > 1:
            shots = told["shots"]
            taken = ", ".join(f"{count} texts {number}" for number, count in shots["texts"].items())
            fixed = f"{shots['fixed_seconds']:,.1f} s with {shots['fixed']} for every text"
            print(f"shots taken: {taken}; {shots['seconds']:,.1f} s of the QPU, {fixed}")
    for one in outcomes:
        waiting = [record for record in one.records if record.open]
        if waiting:
            print(f"{one.plan.name}: {len(waiting)} of {one.plan.jobs} jobs are on their way; next: 'qkd jobs collect'")
        for record in one.records:
            if record.reason is not None:
                print(
                    f"{one.plan.name}: job {record.number + 1} {record.state} ({record.reason}); what others measured "
                    f"is kept; send it again with 'qkd jobs collect {one.plan.name} --again'"
                )
    if results and not any(record.open for one in outcomes for record in one.records):
        print(f"report: {outcomes[-1].plan.folder.parent.parent / 'report.html'}")


def _facts(one: Outcome) -> dict[str, Any]:
    stages = [
        {"stage": stage.name, "jobs": stage.jobs, "executions": stage.executions, "seconds": stage.seconds}
        for stage in one.plan.budget.stages
    ]
    return {
        "plan": one.plan.name,
        "device": one.plan.device,
        "budget": {"stages": stages, "seconds": one.plan.budget.seconds, "remaining": one.plan.budget.remaining},
        "jobs": [{"job": r.number, "id": r.id, "state": r.state, "reason": r.reason} for r in one.records],
        "result": one.result,
    }


@app.command("list")
def list_(run: Run = LATEST, json_: Json = False, debug: Debug = False) -> None:
    """List every job of a run, from its ledger."""
    from qkd.console import warn
    from qkd.hardware.run import listed
    from qkd.reports.compare import aligned

    rows, damaged = listed(run)
    if damaged:
        warn(f"damaged lines of the ledger, kept as they are: {', '.join(map(str, damaged))}")
    if json_:
        print(json.dumps({"jobs": rows, "damaged_lines": damaged}, indent=2))
        return
    if not rows:
        print("no device run yet; make one with 'qkd run-hardware'")
        return
    head = ("run", "job", "device", "mitigation", "texts", "id", "state")
    cells = [
        (r["plan"], str(r["job"] + 1), r["device"], r["mitigation"], str(r["texts"]), r["id"] or "-", r["state"])
        for r in rows
    ]
    print(aligned([head, *cells]))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: Run = LATEST,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a device run asked for and what came of it."""
    from qkd.errors import QkdError
    from qkd.reports import devices
    from qkd.reports.compare import aligned
    from qkd.runs import existing_run, read_json

    folder = existing_run(run).hardware / name
    if not (folder / "plan.json").is_file():
        raise QkdError(f"{run}: there is no device run '{name}'; see 'qkd jobs list'")
    told = {"plan": read_json(folder / "plan.json")}
    if (folder / "result.json").is_file():
        told["result"] = read_json(folder / "result.json")
    if json_:
        print(json.dumps(told, indent=2))
        return
    plan = told["plan"]
    print(
        f"{name}: {plan['device']} version {plan['version']}, mitigation {plan['mitigation']['name']}, "
        f"{len(plan['chunks'])} jobs"
    )
    print(f"circuit {plan['circuit_sha256'][:12]} on qubits {', '.join(map(str, plan['qubits']))}")
    result = told.get("result")
    if result is None or not result["texts"]:
        print("no result yet; 'qkd jobs collect' fetches it")
        return
    print(aligned([("", "value"), *zip(devices.COLUMNS, devices.rows([result])[0], strict=True)]))
    unsure = [row for row in result["rows"] if row["too_close"]]
    print(f"\n{len(unsure)} of {result['texts']} predictions are too close to call")
    for row in sorted(result["rows"], key=lambda row: row["margin"])[:10]:
        error = "?" if row["margin_error"] is None else f"{row['margin_error']:.3f}"
        print(f"{row['prediction']:16} margin {row['margin']:.3f} +- {error}  {row['text'][:70]}")


@app.command()
def collect(
    name: Name = None,
    run: Run = LATEST,
    again: Annotated[bool, typer.Option("--again", help="Send jobs again that failed or were cancelled.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Fetch what is done and return.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with device runs: send what is not sent, fetch what is done."""
    from qkd.hardware.run import collect as collect_

    outcomes = collect_(run, name, wait=not no_wait, again=again)
    if not outcomes and not json_:
        print("every device run is finished")
    _print(outcomes, json_)


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")], run: Run = LATEST, debug: Debug = False
) -> None:
    """Cancel the jobs of a device run that have not ended."""
    from qkd.hardware.run import cancel as cancel_

    gone = cancel_(run, name)
    print(f"cancelled: {', '.join(gone)}" if gone else "there was nothing to cancel at the service")
