"""``qkd devices [list]|show|snapshot|learn|compare`` and ``qkd transpile``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkd.cli.hardware import Detach, DryRun, NewPlan, Yes, ask
from qkd.cli.options import Json, command, print_json
from qkd.core.console import write
from qkd.core.specs import Count, Spec, option
from qkd.hardware.request import LearningRequest

if TYPE_CHECKING:
    from qkd.devices.catalogue import DeviceEntry

app = typer.Typer(help="List, show, learn and compare devices.")

Device = Annotated[str, typer.Argument(help="A device (ibm_fez), its snapshot (fake_fez), or a snapshot file.")]
Png = Annotated[Path | None, typer.Option(help="Write the chip's map to this PNG file.")]


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@command(app, "list")
def list_(json_: Json = False) -> None:
    """List all devices, those of your account included, and their snapshots.

    Example: qkd devices list
    """
    from dataclasses import asdict

    from qkd.core.console import log
    from qkd.core.errors import QkdError
    from qkd.devices import catalogue, live
    from qkd.devices.catalogue import DeviceEntry
    from qkd.reports.tables import aligned

    known = catalogue.load_catalogue()
    online: list[str] | None = None
    if live.has_account():
        try:
            online = live.names()
        except QkdError as error:
            log.warning(f"{error}; the list is that of the catalogue alone")
    names = {device.name for device in known.devices}
    newer = [DeviceEntry(name, qubits=0, status="live") for name in online or () if name not in names]
    devices = [*known.devices, *newer]
    if json_:
        rows = [asdict(device) | {"account": None if online is None else device.name in online} for device in devices]
        print_json({"date": known.date.isoformat(), "devices": rows})
        return
    head = ("device", "snapshot", "processor", "qubits", "lattice", "two-qubit gate", "status")
    write(aligned([head, *(_cells(device, online or ()) for device in devices)]))
    write(f"\nAs of {known.date}. Snapshots are dated calibrations on this machine; 'qkd devices show NAME' draws one.")


def _cells(device: DeviceEntry, online: Collection[str]) -> tuple[str, ...]:
    since, yours = f" {device.since}" if device.since else "", ", yours" if device.name in online else ""
    family = " ".join(word for word in (device.family, device.processor) if word)
    shown = (device.name, device.snapshot, family, device.qubits, device.lattice, device.two_qubit_gate)
    return (*(str(cell) if cell else "-" for cell in shown), device.status + since + yours)


@command(app)
def show(
    device: Device,
    circuit: Annotated[str, typer.Option(help="The circuit whose region is marked.")] = "hardware",
    png: Png = None,
    json_: Json = False,
) -> None:
    """Show a device's calibration and the qubits that a circuit would use.

    Example: qkd devices show ibm_fez
    """
    from qkd.circuits import library
    from qkd.core.errors import QkdError
    from qkd.devices import chip_plot, snapshot
    from qkd.devices.numbers import numbers, rows
    from qkd.devices.region import to_region
    from qkd.devices.transpile import transpile
    from qkd.reports.tables import aligned

    calibrated = snapshot.load_snapshot(device)
    try:
        _, region = to_region(transpile(library.load_circuit(circuit), calibrated), calibrated)
        qubits: tuple[int, ...] = region.qubits
        where = f"{circuit} would take qubits {', '.join(map(str, qubits))}"
    except QkdError as error:
        qubits, where = (), str(error)
    if png:
        chip_plot.figure(calibrated, qubits).savefig(png, dpi=150)
    if json_:
        print_json({**numbers(calibrated).to_dict(), "circuit": circuit, "region": list(qubits)})
        return
    write(calibrated.summary())
    write(aligned(rows(calibrated)))
    write(where)


@command(app, "snapshot")
def snapshot_(device: Annotated[str, typer.Argument(help="A live device of your account.")]) -> None:
    """Save a live device's present calibration, for --local and --sim aer-noisy.

    Example: qkd devices snapshot ibm_fez
    """
    from qkd.devices import live, snapshot

    with live.requests():
        path = snapshot.save_snapshot(live.backend(device))
    write(snapshot.read_snapshot(path).summary())
    write(str(path))


@command(app)
def compare(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    devices: Annotated[str, typer.Option(help="Devices, snapshots or snapshot files, joined by commas.")],
    json_: Json = False,
) -> None:
    """Rank devices for a run's student, by its accuracy under the noise of their calibrations.

    Example: qkd devices compare runs/latest --devices ibm_fez,ibm_marrakesh
    """
    from qkd.core.errors import ConfigError
    from qkd.hardware import fitness
    from qkd.reports.tables import aligned

    names = [name.strip() for name in devices.split(",") if name.strip()]
    if not names:
        raise ConfigError("--devices names no device; write ibm_fez,ibm_marrakesh")
    ranking = fitness.rank_devices(run, names)
    if json_:
        print_json([device.to_dict() for device in ranking])
        return
    write(aligned(fitness.ranking_rows(ranking)))


@command(app, spec=LearningRequest, arguments=("device",))
def learn(
    *,
    spec: LearningRequest,
    dry_run: DryRun = False,
    new_plan: NewPlan = False,
    detach: Detach = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Estimate coherent errors of a device, which calibration data omit, from a few circuits.

    Example: qkd devices learn ibm_fez --run runs/latest --dry-run
    """
    from qkd.core.files import finite
    from qkd.hardware.learning import conclusion, table
    from qkd.hardware.run import run as run_
    from qkd.reports.tables import aligned
    from qkd.results import LearnedResult

    confirm = ask(skip=dry_run or spec.local or yes, silent=json_)
    [device_run] = run_(spec, confirm, detach=detach, dry_run=dry_run, new_plan=new_plan)
    result = device_run.result
    if json_:
        print_json(None if result is None else finite(result.to_dict()))
    elif isinstance(result, LearnedResult) and result.file:
        write(aligned(table(result)))
        write(f"{result.file}\n{conclusion(result)}")
    elif result is not None:
        write(f"{device_run.plan.name} has not ended; next: 'qkd jobs collect'")


class TranspileSpec(Spec):
    """The device and the circuit of ``qkd transpile``."""

    device: str = option("ibm_fez", "A device, its snapshot, or a snapshot file.")
    profile: str | None = option(None, "Transpile profile. Default: that of the device.")
    set: tuple[str, ...] = option((), "A key of the profile and its value, KEY=VALUE; may be repeated.")
    layout: str | None = option(None, "The physical qubit of each logical one, such as 3,4,5.")
    out: Path | None = option(None, "Write the compiled circuit here, as OpenQASM 3.")
    png: Path | None = option(None, "Write the chip's map to this PNG file.")
    qubits: Count | None = option(None, "The width n of a named circuit.")
    layers: Count | None = option(None, "The layers of a named circuit.")


def transpile(
    student: Annotated[str, typer.Argument(help="A run folder, a circuit's name, or a circuit file.")],
    *,
    spec: TranspileSpec,
    json_: Json = False,
) -> None:
    """Compile a student for a device.

    Show the size and the predicted errors of the compiled circuit.

    Example: qkd transpile runs/latest --device ibm_fez
    """
    from dataclasses import asdict

    from qkd.circuits.qasm import to_qasm
    from qkd.core.errors import ConfigError
    from qkd.core.files import write_text
    from qkd.devices.compiled import compile_for
    from qkd.reports.tables import aligned

    pairs = [text.partition("=") for text in spec.set]
    for key, sign, _ in pairs:
        if not sign:
            raise ConfigError(f"--set {key}: write KEY=VALUE, such as --set optimization_level=1")
    settings = {key: value for key, _, value in pairs} | ({"qubits": f"[{spec.layout}]"} if spec.layout else {})
    compiled = compile_for(
        student, spec.device, spec.profile, qubits=spec.qubits, layers=spec.layers, settings=settings
    )
    report = compiled.report
    if spec.out:
        write_text(spec.out, to_qasm(compiled.student))
    if spec.png:
        compiled.chip().savefig(spec.png, dpi=150)
    if json_:
        print_json(asdict(report) | {"profile": compiled.profile.name})
        return
    write(compiled.device.summary())
    write(aligned(report.rows()))
    if report.difference is None:
        write("too wide to be compared with the logical circuit")
    else:
        write(f"equal to the logical circuit to {report.difference:.0e}")
    write(f"profile {compiled.profile.name}; qubits {', '.join(map(str, report.qubits))}")
