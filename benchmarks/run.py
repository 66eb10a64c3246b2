"""``make bench``: every engine a user could pick, on the same circuit, in one run; writes RESULTS.md and its plots.

Each contender is a script of its own in an environment of its own (``Makefile`` makes them), so none can slow another.
Contenders take turns within a round, and ratios are of medians over rounds, so a machine that drifts does not matter.
Their answers are compared: a fast wrong one would be named.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tasks import task

from qkd.circuits import library

HERE = Path(__file__).parent
ROUNDS = 2


@dataclass(frozen=True)
class Contender:
    """A script, the environment it runs in, and how many texts it is given: slow ones get fewer."""

    name: str
    environment: str
    words: tuple[str, ...]
    batch: int = 64
    repeats: int = 7
    rounds: int = ROUNDS


CONTENDERS = (
    Contender("qkd statevector, complex64", ".venv", ("qkd_step.py", "statevector"), repeats=30),
    Contender("TensorCircuit-NG, JAX jit + vmap", ".venv-bench", ("tensorcircuit_step.py",), repeats=30),
    Contender("MindQuantum, expectation with gradient", ".venv-mindquantum", ("mindquantum_step.py",)),
    Contender("PennyLane lightning.qubit, adjoint", ".venv-bench", ("pennylane_step.py", "lightning"), 8, 2, 1),
    Contender("PennyLane default.qubit, JAX jit + vmap", ".venv-bench", ("pennylane_step.py", "default"), 64, 7, 1),
    Contender("stock EstimatorQNN, parameter shift", ".venv", ("qiskit_step.py",), 1, 1, 1),
)


def measure(contender: Contender, folder: Path) -> dict[str, Any]:
    """Run a contender once and return what it printed."""
    file = folder / "task.json"
    file.write_text(json.dumps(task(library.load_circuit("qdllm"), contender.batch, contender.repeats)))
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


def main() -> None:
    found: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(ROUNDS):
            for contender in CONTENDERS:
                if number < contender.rounds:
                    print(f"round {number + 1}: {contender.name}", file=sys.stderr, flush=True)
                    found[contender.name].append(measure(contender, Path(temporary)))
    print("under noise", file=sys.stderr, flush=True)
    text = "\n".join([*ideal(found), *noisy(run(CONTENDERS[0].environment, "noisy_step.py"))])
    (HERE / "RESULTS.md").write_text(text)
    print(text)


def ideal(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the lines about noiseless engines, and draw their plot."""
    ours = CONTENDERS[0].name
    step = {  # milliseconds per text
        contender.name: statistics.median(
            1000 * seconds / contender.batch for one in found[contender.name] for seconds in one["step_s"]
        )
        for contender in CONTENDERS
    }
    first = {name: statistics.median(one["first_s"] for one in rows) for name, rows in found.items()}
    reference = found[ours][0]
    lines = [
        "# Benchmarks",
        "",
        "One forward and backward pass of the paper's 11-qubit circuit (`qdllm`, neighbouring rotations merged: 60 "
        "weights, 11 Z observables), gradients of all weights and inputs. Medians; only ratios travel. "
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}. `make bench` makes it.",
        "",
        "| engine | batch | ms per text | times ours | first step, s | same answer as ours | versions |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for contender in CONTENDERS:
        one = found[contender.name][0]
        shown = ("evs", "input_gradients")
        agrees = all(np.allclose(one[key][:1], reference[key][:1], atol=2e-3) for key in shown)
        versions = ", ".join(f"{name} {value}" for name, value in one["versions"].items() if name != "python")
        name = contender.name
        lines.append(
            f"| {name} | {contender.batch} | {step[name]:.3g} | {step[name] / step[ours]:.3g} | {first[name]:.2f} | "
            f"{'yes' if agrees else '**no**'} | {versions} |"
        )
    plot_ideal(step)
    return [*lines, "", "![milliseconds per text](ideal.png)", ""]


def noisy(one: dict[str, Any]) -> list[str]:
    """Return the lines about training under noise, and draw their plot."""
    ours = 1000 * one["noisy_s"] / 64
    forward = 1000 * one["aer_forward_s"]
    versions = ", ".join(f"{name} {value}" for name, value in one["versions"].items())
    lines = [
        "## Under device noise",
        "",
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
    return [*lines, "", "![seconds per step against qubits, layers and batch](cost.png)", ""]


def plot_ideal(step: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.5 + 0.42 * len(step)), layout="constrained")
    axes = figure.add_subplot()
    names = list(reversed(step))
    bars = axes.barh(names, [step[name] for name in names], color=["#9aa5b1"] * (len(step) - 1) + ["#2563eb"])
    axes.bar_label(bars, [f"{step[name]:.3g}" for name in names], padding=4, fontsize=9)
    axes.set(xscale="log", xlabel="milliseconds per text, forward and backward (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(HERE / "ideal.png", dpi=130)


def plot_cost(by_layers: dict[int, dict[int, float]], one: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    width, layers, batch = figure.subplots(1, 3)
    for count, colour in ((2, "#2563eb"), (1, "#d97706")):
        points = by_layers[count]
        width.plot(list(points), list(points.values()), "o-", color=colour, label=f"{count} layer{'s' * (count > 1)}")
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
    main()
