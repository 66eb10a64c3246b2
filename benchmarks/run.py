"""``make bench``: every engine a user could pick, on the same circuit, in one run; writes RESULTS.md and its plots.

    python benchmarks/run.py [--parts ideal noisy] [--answers FILE]

Each contender is a script of its own in an environment of its own (``Makefile`` makes them), so none can slow another.
Ours is measured before and after each of them, and ratios are of medians, so a machine that drifts does not
matter much. Answers are compared: a fast wrong one would be named. Each part replaces its own lines of RESULTS.md.
``--answers``
keeps the results of contenders, one JSON line each, and does not run these contenders again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tasks import task

from qkd.circuits import library

HERE = Path(__file__).parent
BATCHES = (1, 8, 32, 64, 256)


@dataclass(frozen=True)
class Contender:
    """A script, the environment it runs in, and the batches it is given: slow ones get fewer texts."""

    name: str
    environment: str
    words: tuple[str, ...]
    batches: tuple[int, ...] = (64,)
    repeats: int = 7


OURS = Contender("qkd statevector, complex64, one thread", ".venv", ("qkd_step.py", "statevector"), BATCHES, 60)
OTHERS = (
    Contender("TensorCircuit-NG, JAX jit + vmap", ".venv-bench", ("tensorcircuit_step.py",), BATCHES, 60),
    Contender("MindQuantum, expectation with gradient", ".venv-mindquantum", ("mindquantum_step.py",)),
    Contender("PennyLane lightning.qubit, adjoint", ".venv-bench", ("pennylane_step.py", "lightning"), (8,), 3),
    Contender("PennyLane default.qubit, JAX jit + vmap", ".venv-bench", ("pennylane_step.py", "default")),
    Contender("stock EstimatorQNN, parameter shift", ".venv", ("qiskit_step.py",), (1,), 1),
)


@dataclass(frozen=True)
class Row:
    """A contender's result for a batch; ``ours`` has our engine's milliseconds a step before and after it."""

    contender: Contender
    batch: int
    answer: dict[str, Any]
    ours: float
    right: bool

    @property
    def step(self) -> float:
        """Milliseconds of a step."""
        return 1000 * statistics.median(self.answer["step_s"])


def measure(contender: Contender, batch: int, folder: Path) -> dict[str, Any]:
    """Run a contender once and return what it printed."""
    print(f"{batch} texts: {contender.name}", file=sys.stderr, flush=True)
    file = folder / "task.json"
    file.write_text(json.dumps(task(library.load_circuit("qdllm"), batch, contender.repeats)))
    script, *words = contender.words
    return run(contender.environment, script, str(file), *words)


def run(environment: str, script: str, *words: str) -> dict[str, Any]:
    """Run a script of this folder in one of the environments and return the JSON object it prints last."""
    command = [str(HERE.parent / environment / "bin" / "python"), str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def main(parts: Sequence[str], answers: Path | None) -> None:
    """Measure the parts and write them down."""
    if "ideal" in parts:
        with tempfile.TemporaryDirectory() as temporary:
            rows = measured(answers or Path(temporary) / "answers.jsonl", Path(temporary))
        replace("ideal", ideal(rows))
    if "noisy" in parts:
        replace("noisy", noisy(run(OURS.environment, "noisy_step.py")))


def replace(part: str, lines: list[str]) -> None:
    """Put lines between the marks of a part of RESULTS.md."""
    file = HERE / "RESULTS.md"
    before, rest = file.read_text().split(f"<!-- {part} -->\n")
    _, after = rest.split(f"<!-- end of {part} -->\n")
    file.write_text("\n".join([f"{before}<!-- {part} -->", *lines, f"<!-- end of {part} -->", after]))


def measured(answers: Path, folder: Path) -> list[Row]:
    """Return a row of every contender and batch, each beside ours of the same minutes."""
    answers.touch()
    known = {(row["name"], row["batch"]): row for row in map(json.loads, answers.read_text().split("\n")[:-1])}
    for contender in OTHERS:
        for batch in contender.batches:
            if (contender.name, batch) not in known:
                asked = [measure(each, batch, folder) for each in (OURS, contender, OURS)]
                row = {"name": contender.name, "batch": batch, "answers": asked}
                known[contender.name, batch] = row
                with answers.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    rows = []
    for contender in OTHERS:
        for batch in contender.batches:
            before, answer, after = known[contender.name, batch]["answers"]
            ours = statistics.median(before["step_s"] + after["step_s"])
            right = all(np.allclose(answer[key][:1], before[key][:1], atol=2e-3) for key in ("evs", "input_gradients"))
            if contender == OTHERS[0]:
                rows.append(Row(OURS, batch, before | {"step_s": [ours]}, 1000 * ours, True))
            rows.append(Row(contender, batch, answer, 1000 * ours, right))
    return rows


def ideal(rows: list[Row]) -> list[str]:
    """Return the lines about noiseless engines, and draw their plot."""
    load = " / ".join(f"{each:.1f}" for each in os.getloadavg())
    lines = [
        f"Medians of one run; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load "
        f"{load} at its end (1, 5, 15 minutes; a machine with nothing else to do has 2 at most).",
        "",
        "| engine | batch | ms a step | ms a text | times ours | first step, s | same answer as ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: [OURS, *OTHERS].index(row.contender)):
        lines.append(
            f"| {row.contender.name} | {row.batch} | {row.step:.3g} | {row.step / row.batch:.3g} | "
            f"{row.step / row.ours:.3g} | {row.answer['first_s']:.2f} | {'yes' if row.right else '**no**'} |"
        )
    versions = {name: value for row in rows for name, value in row.answer["versions"].items() if name != "python"}
    named = ", ".join(f"{name} {value}" for name, value in versions.items())
    plot_ideal(rows)
    return [*lines, "", f"{named}.", "", "![milliseconds per text](ideal.png)"]


def noisy(one: dict[str, Any]) -> list[str]:
    """Return the lines about training under noise, and draw their plot."""
    ours = 1000 * one["noisy_s"] / 64
    forward = 1000 * one["aer_forward_s"]
    versions = ", ".join(f"{name} {value}" for name, value in one["versions"].items())
    lines = [
        f"`hardware`, 11 qubits, 2 layers, on a line of `fake_brisbane` with its noise ({versions}).",
        "",
        "| what | ms per text | times ours |",
        "| --- | --- | --- |",
        f"| light-cone engine, float32, forward **and gradient**, exact, batch 64 | {ours:.3g} | 1 |",
        f"| the same without noise | {1000 * one['ideal_s'] / 64:.3g} | {one['ideal_s'] / one['noisy_s']:.2f} |",
        f"| Aer `EstimatorV2.from_backend`, **forward** alone, to 0.03 | {forward:.4g} | {forward / ours:,.0f} |",
        "",
        "A noisy training step of 64 texts against width (exact values and gradients; peak memory of the whole process "
        f"{one['peak_gb']:.2f} GB):",
        "",
        "| qubits | 1 layer, s | 2 layers, s |",
        "| --- | --- | --- |",
    ]
    by_layers = {
        layers: {row["qubits"]: row["seconds"] for row in one["wide"] if row["layers"] == layers} for layers in (1, 2)
    }
    lines += [f"| {n} | {seconds:.4f} | {by_layers[2][n]:.3f} |" for n, seconds in by_layers[1].items()]
    plot_cost(by_layers, one)
    lines += [
        "",
        "The same at 25 qubits against layers (batch 64) and against the batch (2 layers):",
        "",
        "| layers | s | | batch | s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for layers, batch in itertools.zip_longest(one["layers"], one["batch"]):
        left = f"| {layers['layers']} | {layers['seconds']:.4f} |" if layers else "| | |"
        lines.append(f"{left} | {batch['batch']} | {batch['seconds']:.4f} |")
    return [*lines, "", "![seconds per step against qubits, layers and batch](cost.png)"]


def plot_ideal(rows: list[Row]) -> None:
    """Draw milliseconds a text against the batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for contender in (OURS, *OTHERS):
        points = {row.batch: row.step / row.batch for row in rows if row.contender == contender}
        bold: dict[str, Any] = {"color": "#2563eb", "linewidth": 2.5} if contender == OURS else {}
        axes.plot(list(points), list(points.values()), "o-", label=contender.name, **bold)
    axes.set(xscale="log", yscale="log", xlabel="texts a step", ylabel="milliseconds a text")
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "ideal.png", dpi=130)


def plot_cost(by_layers: dict[int, dict[int, float]], one: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    width, layers, batch = figure.subplots(1, 3)
    for count, color in ((2, "#2563eb"), (1, "#d97706")):
        points = by_layers[count]
        width.plot(list(points), list(points.values()), "o-", color=color, label=f"{count} layer{'s' * (count > 1)}")
    width.set(xlabel="qubits", ylabel="seconds per noisy step", ylim=(0, None), xlim=(0, None))
    width.legend(frameon=False)
    layers.plot([p["layers"] for p in one["layers"]], [p["seconds"] for p in one["layers"]], "o-", color="#2563eb")
    layers.set(xlabel="layers (25 qubits)", yscale="log", xticks=[p["layers"] for p in one["layers"]])
    batch.plot([p["batch"] for p in one["batch"]], [p["seconds"] for p in one["batch"]], "o-", color="#2563eb")
    batch.set(xlabel="texts per step (25 qubits, 2 layers)", ylim=(0, None), xlim=(0, None))
    for axes in (width, layers, batch):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "cost.png", dpi=130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("ideal", "noisy"), default=["ideal", "noisy"])
    parser.add_argument("--answers", type=Path)
    options = parser.parse_args()
    main(options.parts, options.answers)
