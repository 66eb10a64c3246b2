"""``qkd circuits list|show|check``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from qkd.cli.options import Json, command, print_json
from qkd.core.console import write

app = typer.Typer(no_args_is_help=True, help="List, draw and check circuits.")

Name = Annotated[str, typer.Argument(help="A circuit's name, or a TOML or OpenQASM 3 file.")]
Qubits = Annotated[int | None, typer.Option(min=1, help="Number of qubits n. Default: that of the circuit.")]
Inputs = Annotated[str | None, typer.Option(help="Data parameters of an OpenQASM file, such as x[0],x[1] or x.")]
Layers = Annotated[int | None, typer.Option(min=1, help="Repetitions of the ansatz. Default: that of the circuit.")]


@command(app, "list")
def list_(json_: Json = False) -> None:
    """List the circuits that have a name, and their files.

    Example: qkd circuits list
    """
    from qkd.circuits import library
    from qkd.circuits.build import read_circuit_spec
    from qkd.circuits.student import count
    from qkd.reports.tables import aligned

    circuits = []
    for name, path in library.paths().items():
        student = library.load_circuit(str(path))
        description = read_circuit_spec(path).description if path.suffix == ".toml" else ""
        circuits.append({"name": name, "counts": count(student).size(), "description": description, "path": str(path)})
    if json_:
        print_json(circuits)
        return
    write(aligned([("circuit", "size"), *((row["name"], row["counts"]) for row in circuits)]))
    for row in circuits:
        write(f"\n{row['name']}: {row['description']}\n  {row['path']}")


@command(app)
def show(name: Name, qubits: Qubits = None, layers: Layers = None, inputs: Inputs = None) -> None:
    """Draw a circuit and count its gates and parameters.

    Example: qkd circuits show hardware --qubits 4
    """
    from qkd.circuits import library
    from qkd.circuits.student import circuit_text, count

    student = library.load_circuit(name, qubits, layers, inputs.split(",") if inputs else None)
    write(circuit_text(student))
    write(count(student).render())


@command(app)
def check(name: Name, qubits: Qubits = None, layers: Layers = None, inputs: Inputs = None, json_: Json = False) -> None:
    """Find weights and inputs without effect, redundant weights, and the light cone of each observable.

    Example: qkd circuits check qdllm
    """
    from dataclasses import asdict

    from qkd.circuits import library
    from qkd.simulation.diagnostics import check_circuit

    report = check_circuit(library.load_circuit(name, qubits, layers, inputs.split(",") if inputs else None))
    write(json.dumps(asdict(report) | {"healthy": report.healthy}, indent=2) if json_ else report.render())
