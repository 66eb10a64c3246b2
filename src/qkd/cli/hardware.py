"""``qkd run-hardware``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.options import Debug, Json, Quiet
from qkd.cli.outcomes import Window, asked, patience, print_outcomes

LATEST = Path("runs/latest")
Run = Annotated[Path, typer.Option(help="A run folder.")]


def run_hardware(
    run: Run = LATEST,
    device: Annotated[str | None, typer.Option(help="A device such as ibm_fez. Default: that of the run.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Rehearse on the device's snapshot: shots drawn from exact noisy values.")
    ] = False,
    mitigation: Annotated[
        str | None, typer.Option(help="none, readout, affine, zne, pea, pec, or all. Default: that of the profile.")
    ] = None,
    client: Annotated[
        bool, typer.Option("--client", help="With --local: let IBM's client simulate every twirl, slowly.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of test texts, stratified by label. Default: all.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Texts of your own: a .txt file, one a line, or a table.")] = None,
    text_column: Annotated[str, typer.Option(help="The column of the file that holds the texts.")] = "text",
    shots: Annotated[str | None, typer.Option(help="Shots per expectation value, or auto; else the profile's.")] = None,
    target_stderr: Annotated[float | None, typer.Option(help="The standard error wanted, in place of --shots.")] = None,
    max_qpu_seconds: Annotated[float | None, typer.Option(help="Refuse a run above this; else the profile's.")] = None,
    mode: Annotated[str | None, typer.Option(help="job, batch or session. Default: that of the profile.")] = None,
    profile: Annotated[str | None, typer.Option(help="Transpile profile. Default: that of the device.")] = None,
    randomizations: Annotated[int | None, typer.Option(min=1, help="Twirls that the shots are spread over.")] = None,
    decoupling: Annotated[str | None, typer.Option(help="none, XX, XpXm or XY4; else the profile's.")] = None,
    twirl_gates: Annotated[bool, typer.Option("--twirl-gates", help="Twirl two-qubit gates.")] = False,
    learned: Annotated[
        str | None,
        typer.Option(help="Learned errors: a file of 'qkd devices learn', or none. Default: the newest of 7 days."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed that draws --samples.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the estimate; needs no account.")] = False,
    anew: Annotated[bool, typer.Option("--new-plan", help="Make a new plan although an equal one is open.")] = False,
    window: Window = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return after the submission.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Submit without a question.")] = False,
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
        learned=learned,
    )

    outcomes = run_(
        order,
        asked(dry_run or local or yes, quiet or json_),
        detach,
        dry_run,
        patience(window),
        anew,
    )
    print_outcomes(outcomes, json_)
