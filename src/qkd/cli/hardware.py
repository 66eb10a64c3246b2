"""``qkd run-hardware`` and ``qkd jobs list|show|collect|cancel``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkd.cli.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from qkd.hardware.patience import Patience
    from qkd.hardware.plan import Plan
    from qkd.hardware.run import Outcome

LATEST = Path("runs/latest")
Window = Annotated[
    float | None,
    typer.Option(
        "--consistency-window",
        min=0,
        help="Seconds in which a job is looked for whose submission had no answer, before it is sent anew: 900, as "
        "long as IBM's client waits for that answer.",
    ),
]
Run = Annotated[Path, typer.Option(help="A run folder.")]
AnyRun = Annotated[Path | None, typer.Option(help="A run folder; found by the device run's name when left out.")]
Name = Annotated[str | None, typer.Argument(help="A device run, hw-1; all that are not finished when left out.")]

app = typer.Typer(no_args_is_help=True, help="Jobs of device runs: list, show, collect and cancel them.")


def run_hardware(
    run: Run = LATEST,
    device: Annotated[str | None, typer.Option(help="The device, ibm_fez; the run's own when left out.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Rehearse on the device's snapshot: shots drawn from exact noisy values.")
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the estimate; needs no account.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of the QPU, into which --samples and --shots are planned.")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Make another plan, though one like it is not finished.")
    ] = False,
    window: Window = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the jobs are sent.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Send without asking.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a student on a device, or rehearse that: compile, estimate, ask, send, collect, report."""
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

    outcomes = run_(
        order, asked(dry_run or local or yes, quiet or json_), detach, dry_run, _patience(window), anew, minutes
    )
    _print(outcomes, json_)


def asked(unasked: bool, silent: bool) -> Callable[[Plan], bool]:
    """Return what shows a plan and asks whether it is sent.

    Args:
        unasked: go on without a question.
        silent: show nothing.
    """
    from qkd.errors import QkdError

    def confirm(plan: Plan) -> bool:
        if not silent:
            _tell(plan)
        if unasked:
            return True
        if not sys.stdin.isatty():
            raise QkdError("nothing was sent: say --yes to send it without being asked")
        return typer.confirm(f"Send {plan.jobs} job{'s' * (plan.jobs > 1)} to {plan.device}?")

    return confirm


def _tell(plan: Plan) -> None:
    """Print what a plan costs."""
    from qkd.reports.tables import aligned

    told = plan.mitigation
    twirls = "" if told.randomizations is None else f", {told.randomizations} twirls"
    shots = f"adaptive shots from {told.shots}" if plan.rounds else f"{told.shots:,} shots"
    what = f"{len(plan.texts)} texts" if plan.purpose == "predict" else f"{len(plan.values)} circuits"
    print(f"{plan.device}, mitigation {told.name}, {shots}{twirls}, {what}")
    print(aligned(plan.budget.rows()))
    if plan.local:
        print("on its snapshot: nothing is sent, and these are the seconds that the device would take")
    elif plan.budget.remaining is not None:
        print(f"the account has {plan.budget.remaining:,.0f} s left")
    print()


def _print(outcomes: list[Outcome], json_: bool) -> None:
    from qkd.reports import devices
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult, MeasuredResult

    if json_:
        print(json.dumps([_facts(one) for one in outcomes], indent=2))
        return
    results = [one.result for one in outcomes if one.result is not None]
    for result in results:
        if isinstance(result, LearnedResult) and result.file:
            print(f"what {result.plan} learned: {result.file}")
    measured = [result for result in results if isinstance(result, MeasuredResult)]
    if measured:
        cells = list(zip(*[devices.COLUMNS, *devices.rows(measured)], strict=True))
        print(aligned([("", *(result.mitigation.name for result in measured)), *map(tuple, cells)]))
    for shots in [result.shots for result in measured if result.shots]:
        if len(shots.texts) > 1:
            taken = ", ".join(f"{count} texts {number}" for number, count in shots.texts.items())
            fixed = f"{shots.fixed_seconds:,.1f} s with {shots.fixed} for every text"
            print(f"shots taken: {taken}; {shots.seconds:,.1f} s of the QPU, {fixed}")
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
    from qkd.files import finite

    stages = [
        {"stage": stage.name, "jobs": stage.jobs, "executions": stage.executions, "seconds": stage.seconds}
        for stage in one.plan.budget.stages
    ]
    return {
        "plan": one.plan.name,
        "device": one.plan.device,
        "budget": {"stages": stages, "seconds": one.plan.budget.seconds, "remaining": one.plan.budget.remaining},
        "jobs": [{"job": r.number, "id": r.id, "state": r.state, "reason": r.reason} for r in one.records],
        "result": None if one.result is None else finite(one.result.to_json()),
    }


def _patience(window: float | None) -> Patience:
    from qkd.hardware.patience import Patience

    return Patience() if window is None else Patience(window=window)


@app.command("list")
def list_(
    run: Annotated[Path | None, typer.Option(help="A run folder; every run on this machine when left out.")] = None,
    under: Annotated[
        Path, typer.Option(help="Look for run folders under this one too, where the index of this machine was lost.")
    ] = Path("runs"),
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """List the jobs of every run on this machine, or of one run, from their ledgers; open ones first."""
    from qkd.console import warn
    from qkd.hardware.inventory import listed, listed_all
    from qkd.reports.tables import aligned

    rows, damaged = (listed_all(under), []) if run is None else listed(run)
    if damaged:
        warn(f"damaged lines of the ledger, kept as they are: {', '.join(map(str, damaged))}")
    if json_:
        print(json.dumps({"jobs": rows, "damaged_lines": damaged}, indent=2))
        return
    if not rows:
        print("no device run yet; make one with 'qkd run-hardware'")
        return
    head = ("run", "plan", "job", "device", "mitigation", "texts", "id", "state")
    cells = [
        (
            _shown(row["run"]) + (" (gone)" if row.get("folder_gone") else ""),
            row["plan"],
            str(row["job"] + 1),
            row["device"],
            row["mitigation"],
            str(row["texts"]),
            row["id"] or "-",
            row["state"] + (f", {len(row['duplicates'])} more" if row["duplicates"] else ""),
        )
        for row in rows
    ]
    print(aligned([head, *cells]))


def _shown(run: str) -> str:
    """Return a run folder as it is typed from here."""
    path = Path(run)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else run


def _where(run: Path | None, name: str | None) -> list[Path]:
    """Return the run folders that a command is about.

    Raises:
        QkdError: a plan's name is that of several runs.
    """
    from qkd.errors import QkdError
    from qkd.hardware.inventory import holding

    if run is not None:
        return [run]
    found = holding(name)
    if name is not None and len(found) > 1:
        unfinished = [where for where in holding(None) if where in found]
        if len(unfinished) != 1:
            known = ", ".join(_shown(str(where)) for where in found)
            raise QkdError(f"there is a device run '{name}' in several runs: {known}; say which one with --run")
        found = unfinished
    return found or [LATEST]


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: AnyRun = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a device run asked for and what came of it."""
    from qkd.errors import QkdError
    from qkd.files import read_json
    from qkd.hardware.result import read_result
    from qkd.reports import devices
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult, MeasuredResult
    from qkd.runs import existing_run

    run = _where(run, name)[0]
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
    result = read_result(folder / "result.json") if "result" in told else None
    if isinstance(result, LearnedResult) and result.file:
        from qkd.hardware.learning import table

        print(aligned(table(result)))
        print(result.file)
        return
    if not isinstance(result, MeasuredResult):
        print("no result yet; 'qkd jobs collect' fetches it")
        return
    print(aligned([("", "value"), *zip(devices.COLUMNS, devices.rows([result])[0], strict=True)]))
    unsure = [row for row in result.rows if row.too_close]
    print(f"\n{len(unsure)} of {result.texts} predictions are too close to call")
    for row in sorted(result.rows, key=lambda row: row.margin)[:10]:
        error = "?" if row.margin_error is None else f"{row.margin_error:.3f}"
        print(f"{row.prediction:16} margin {row.margin:.3f} +- {error}  {row.text[:70]}")


@app.command()
def collect(
    name: Name = None,
    run: AnyRun = None,
    again: Annotated[bool, typer.Option("--again", help="Send jobs again that failed or were cancelled.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Fetch what is done and return.")] = False,
    window: Window = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with device runs: send what is not sent, fetch what is done."""
    from qkd.console import warn
    from qkd.errors import QkdError
    from qkd.hardware.run import collect as collect_

    outcomes, troubles = [], []
    for where in _where(run, name):
        try:
            outcomes += collect_(where, name, not no_wait, again, _patience(window))
        except QkdError as error:  # other runs are gone on with
            troubles.append(error)
    if not outcomes and not troubles and not json_:
        print("every device run is finished")
    _print(outcomes, json_)
    for trouble in troubles[1:]:
        warn(str(trouble))
    if troubles:
        raise troubles[0]


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: AnyRun = None,
    window: Window = None,
    debug: Debug = False,
) -> None:
    """Cancel the jobs of a device run that have not ended, and say of each what the service says."""
    from qkd.hardware.run import cancel as cancel_

    states = cancel_(_where(run, name)[0], name, _patience(window))
    for state in sorted(set(states.values())):
        print(f"{state}: {', '.join(id_ for id_, one in states.items() if one == state)}")
    if not states:
        print("there was nothing to cancel at the service")
    if "done" in states.values():
        print(f"what had been measured already is fetched with 'qkd jobs collect {name}'")
