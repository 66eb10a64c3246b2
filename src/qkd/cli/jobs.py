"""``qkd jobs list|show|collect|cancel``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.options import Debug, Json, Quiet
from qkd.cli.outcomes import Window, patience, print_outcomes
from qkd.core.console import one_line, write

LATEST = Path("runs/latest")
AnyRun = Annotated[Path | None, typer.Option(help="A run folder. Default: the one that has the device run.")]
Name = Annotated[str | None, typer.Argument(help="A device run such as hw-1. Default: all that are open.")]

app = typer.Typer(no_args_is_help=True, help="Jobs of device runs: list, show, collect and cancel them.")


@app.command("list")
def list_(
    run: Annotated[Path | None, typer.Option(help="A run folder. Default: every run on this machine.")] = None,
    under: Annotated[
        Path, typer.Option(help="Look for run folders under this one too, where the index of this machine was lost.")
    ] = Path("runs"),
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """List the jobs of every run on this machine, or of one run, from their ledgers; open ones first."""
    from qkd.core.console import warn
    from qkd.hardware.inventory import listed, listed_all
    from qkd.reports.tables import aligned

    rows, damaged = (listed_all(under), []) if run is None else listed(run)
    if damaged:
        warn(f"damaged lines of the ledger, which qkd does not change: {', '.join(map(str, damaged))}")
    if json_:
        write(json.dumps({"jobs": rows, "damaged_lines": damaged}, indent=2))
        return
    if not rows:
        write("no device run yet; make one with 'qkd run-hardware'")
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
    write(aligned([head, *cells]))


def _shown(run: str) -> str:
    """Return the path of a run folder relative to the working directory, if it is inside."""
    path = Path(run)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else run


def _where(run: Path | None, name: str | None) -> list[Path]:
    """Return the run folders that a command is about.

    Raises:
        QkdError: a plan's name is that of several runs.
    """
    from qkd.core.errors import QkdError
    from qkd.hardware.inventory import holding

    if run is not None:
        return [run]
    folders = holding(name)
    if name is not None and len(folders) > 1:
        unfinished = [where for where in holding(None) if where in folders]
        if len(unfinished) != 1:
            known = ", ".join(_shown(str(where)) for where in folders)
            raise QkdError(f"there is a device run '{name}' in several runs: {known}; say which one with --run")
        folders = unfinished
    return folders or [LATEST]


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A device run, hw-1.")],
    run: AnyRun = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Show the request and the result of a device run.

    Example: qkd jobs show hw-1
    """
    from qkd.core.errors import QkdError
    from qkd.core.files import read_json
    from qkd.core.runs import existing_run
    from qkd.hardware.result import read_result
    from qkd.reports import devices
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult, MeasuredResult

    run = _where(run, name)[0]
    folder = existing_run(run).hardware / name
    if not (folder / "plan.json").is_file():
        raise QkdError(f"{run}: there is no device run '{name}'; see 'qkd jobs list'")
    content = {"plan": read_json(folder / "plan.json")}
    if (folder / "result.json").is_file():
        content["result"] = read_json(folder / "result.json")
    if json_:
        write(json.dumps(content, indent=2))
        return
    plan = content["plan"]
    write(
        f"{name}: {plan['device']} version {plan['version']}, mitigation {plan['mitigation']['name']}, "
        f"{len(plan['chunks'])} jobs"
    )
    write(f"circuit {plan['circuit_sha256'][:12]} on qubits {', '.join(map(str, plan['qubits']))}")
    result = read_result(folder / "result.json") if "result" in content else None
    if isinstance(result, LearnedResult) and result.file:
        from qkd.hardware.learning import table

        write(aligned(table(result)))
        write(result.file)
        return
    if not isinstance(result, MeasuredResult):
        write("no result yet; 'qkd jobs collect' fetches it")
        return
    write(aligned([("", "value"), *zip(devices.COLUMNS, devices.device_rows([result])[0], strict=True)]))
    unsure = [row for row in result.rows if row.too_close]
    write(f"\n{len(unsure)} of {result.texts} predictions are too close to call")
    for row in sorted(result.rows, key=lambda row: row.margin)[:10]:
        error = "?" if row.margin_error is None else f"{row.margin_error:.3f}"
        write(f"{one_line(row.prediction):16} margin {row.margin:.3f} +- {error}  {one_line(row.text[:70])}")


@app.command()
def collect(
    name: Name = None,
    run: AnyRun = None,
    again: Annotated[bool, typer.Option("--resubmit", help="Send jobs again that failed or were cancelled.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Fetch what is done and return.")] = False,
    window: Window = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with device runs: send what is not sent, fetch what is done."""
    from qkd.core.console import warn
    from qkd.core.errors import QkdError
    from qkd.hardware.run import collect as collect_

    outcomes, troubles = [], []
    for where in _where(run, name):
        try:
            outcomes += collect_(where, name, not no_wait, again, patience(window))
        except QkdError as error:  # the other runs continue
            troubles.append(error)
    if not outcomes and not troubles and not json_:
        write("every device run is finished")
    print_outcomes(outcomes, json_)
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

    states = cancel_(_where(run, name)[0], name, patience(window))
    for state in sorted(set(states.values())):
        write(f"{state}: {', '.join(id_ for id_, known in states.items() if known == state)}")
    if not states:
        write("there was nothing to cancel at the service")
    if "done" in states.values():
        write(f"fetch existing measurements with 'qkd jobs collect {name}'")
