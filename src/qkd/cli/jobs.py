"""``qkd jobs list|show|collect|cancel``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.hardware import Window, print_device_runs, retry_policy
from qkd.cli.options import LATEST, Json, command, print_json
from qkd.core.console import one_line, write

AnyRun = Annotated[Path | None, typer.Option(help="A run folder; found by the device run's name if not set.")]
Name = Annotated[str | None, typer.Argument(help="A device run, hw-1; all unfinished ones if not set.")]

app = typer.Typer(no_args_is_help=True, help="List, show, collect and cancel jobs.")


@command(app, "list")
def list_(
    run: Annotated[Path | None, typer.Option(help="A run folder; every run on this machine if not set.")] = None,
    under: Annotated[
        Path, typer.Option(help="Search this folder for run folders too, if the index of this machine was lost.")
    ] = Path("runs"),
    json_: Json = False,
) -> None:
    """List the jobs of every run on this machine, or of one run, from their ledgers; open ones first.

    Example: qkd jobs list
    """
    from qkd.core.console import log
    from qkd.hardware.index import list_all_jobs, list_jobs
    from qkd.reports.tables import aligned

    rows, damaged = (list_all_jobs(under), []) if run is None else list_jobs(run)
    if damaged:
        log.warning(f"qkd ignores damaged lines of the ledger: {', '.join(map(str, damaged))}")
    if json_:
        print_json({"jobs": rows, "damaged_lines": damaged})
        return
    if not rows:
        write("there is no device run; 'qkd run-hardware' makes one")
        return
    head = ("run", "plan", "job", "device", "mitigation", "texts", "id", "state")
    cells = [
        (
            _relative(row["run"]) + (" (deleted)" if row.get("folder_gone") else ""),
            row["plan"],
            str(row["job"] + 1),
            row["device"],
            row["mitigation"],
            str(row["texts"]),
            row["id"] or "-",
            row["state"] + (f", {len(row['duplicates'])} duplicates" if row["duplicates"] else ""),
        )
        for row in rows
    ]
    write(aligned([head, *cells]))


def _relative(run: str) -> str:
    """Return the path of a run folder, relative to the current folder if it is inside."""
    path = Path(run)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else run


def _folders(run: Path | None, name: str | None) -> list[Path]:
    """Return the run folders that a command is about."""
    from qkd.core.errors import QkdError
    from qkd.hardware.index import runs_with_plan

    if run is not None:
        return [run]
    folders = runs_with_plan(name)
    if name is not None and len(folders) > 1:
        unfinished = [where for where in runs_with_plan(None) if where in folders]
        if len(unfinished) != 1:
            known = ", ".join(_relative(str(where)) for where in folders)
            raise QkdError(f"several runs have a device run '{name}': {known}; choose one with --run")
        folders = unfinished
    return folders or [LATEST]


@command(app)
def show(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: AnyRun = None,
    output: Annotated[
        Path | None, typer.Option(help="A .csv, .jsonl or .parquet file for the expectation values.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show the plan and the result of a device run.

    Example: qkd jobs show hw-1
    """
    from qkd.core.files import check_suffix, read_json, write_table
    from qkd.core.runs import existing_run
    from qkd.hardware.index import find_plan
    from qkd.hardware.result import read_result
    from qkd.reports.devices import device_table
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult, MeasuredResult

    check_suffix(output)
    plan = find_plan(existing_run(_folders(run, name)[0]), name)
    path = plan.folder / "result.json"
    result = read_result(path) if path.is_file() else None
    if output is not None and isinstance(result, MeasuredResult):
        write_table(output, result.to_frame("values"))
    if json_:
        content = {"plan": read_json(plan.folder / "plan.json")}
        print_json(content | ({} if result is None else {"result": read_json(path)}))
        return
    write(f"{name}: {plan.device} version {plan.version}, mitigation {plan.mitigation.name}, {len(plan.chunks)} jobs")
    if isinstance(result, LearnedResult) and result.file:
        from qkd.hardware.learning import table

        write(aligned(table(result)))
        write(result.file)
        return
    if not isinstance(result, MeasuredResult):
        write("there is no result yet; 'qkd jobs collect' fetches it")
        return
    write(device_table([result]).transposed().to_text())
    unclear = [row for row in result.rows if row.unclear]
    write(f"\n{len(unclear)} of {result.texts} predictions are unclear")
    for row in sorted(result.rows, key=lambda row: row.margin)[:10]:
        error = "?" if row.margin_error is None else f"{row.margin_error:.3f}"
        write(f"{one_line(row.prediction):16} margin {row.margin:.3f} +- {error}  {one_line(row.text[:70])}")


@command(app)
def collect(
    name: Name = None,
    run: AnyRun = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Submit jobs again that failed or were cancelled.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Fetch finished jobs and return.")] = False,
    window: Window = None,
    json_: Json = False,
) -> None:
    """Continue device runs: submit the jobs that are due, fetch those that are done.

    Example: qkd jobs collect hw-1
    """
    from qkd.core.console import log
    from qkd.core.errors import QkdError
    from qkd.hardware.run import collect as collect_

    device_runs, failures = [], []
    for where in _folders(run, name):
        try:
            policy = retry_policy(window)
            device_runs += collect_(where, name, wait=not no_wait, resubmit=resubmit, policy=policy)
        except QkdError as error:  # the other runs are continued
            failures.append(error)
    if not device_runs and not failures and not json_:
        write("every device run is finished")
    print_device_runs(device_runs, json_)
    for failure in failures[1:]:
        log.warning(str(failure))
    if failures:
        raise failures[0]


@command(app)
def cancel(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: AnyRun = None,
    window: Window = None,
) -> None:
    """Cancel the jobs of a device run that have not ended, and print the state that the service gives for each.

    Example: qkd jobs cancel hw-1
    """
    from qkd.hardware.run import cancel as cancel_

    states = cancel_(_folders(run, name)[0], name, retry_policy(window))
    for state in sorted(set(states.values())):
        write(f"{state}: {', '.join(id_ for id_, known in states.items() if known == state)}")
    if not states:
        write("the service had no job to cancel")
    if "done" in states.values():
        write(f"'qkd jobs collect {name}' fetches the jobs that were done already")
