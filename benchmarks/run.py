"""``make bench``: every engine a user could pick, on the same circuit, in one run; writes RESULTS.md and its plot.

Each contender is a script of its own in an environment of its own (``Makefile`` makes them), so none can slow another.
Contenders take turns within a round, and ratios are of medians over rounds, so a machine that drifts does not matter.
Their answers are compared: a fast wrong one would be named.
"""

from __future__ import annotations

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
ROUNDS = 3


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
    Contender("qkd statevector, complex64", ".venv", ("qkd_step.py",), repeats=30),
    Contender("TensorCircuit-NG, JAX jit + vmap", ".venv-bench", ("tensorcircuit_step.py",), repeats=30),
    Contender("MindQuantum, expectation with gradient", ".venv-mindquantum", ("mindquantum_step.py",)),
    Contender("PennyLane lightning.qubit, adjoint", ".venv-bench", ("pennylane_step.py", "lightning"), 16, 3),
    Contender("PennyLane default.qubit, JAX jit + vmap", ".venv-bench", ("pennylane_step.py", "default"), 64, 7, 1),
    Contender("stock EstimatorQNN, parameter shift", ".venv", ("qiskit_step.py",), 1, 1, 1),
)


def measure(contender: Contender, folder: Path) -> dict[str, Any]:
    """Run a contender once and return what it printed."""
    file = folder / "task.json"
    file.write_text(json.dumps(task(library.load("qdllm"), contender.batch, contender.repeats)))
    python = HERE.parent / contender.environment / "bin" / "python"
    script, *words = contender.words
    done = subprocess.run(
        [str(python), str(HERE / script), str(file), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{contender.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def main() -> None:
    found: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(ROUNDS):
            for contender in CONTENDERS:
                if number < contender.rounds:
                    print(f"round {number + 1}: {contender.name}", file=sys.stderr, flush=True)
                    found[contender.name].append(measure(contender, Path(temporary)))
    write(found)


def write(found: dict[str, list[dict[str, Any]]]) -> None:
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
        "weights, 11 Z observables), gradients of all weights and inputs. Medians; only ratios travel between machines. "
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
    lines += ["", "![milliseconds per text](results.png)", ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines))
    plot(step)
    print("\n".join(lines))


def plot(step: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.5 + 0.42 * len(step)), layout="constrained")
    axes = figure.add_subplot()
    names = list(reversed(step))
    bars = axes.barh(names, [step[name] for name in names], color=["#9aa5b1"] * (len(step) - 1) + ["#2563eb"])
    axes.bar_label(bars, [f"{step[name]:.3g}" for name in names], padding=4, fontsize=9)
    axes.set(xscale="log", xlabel="milliseconds per text, forward and backward (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(HERE / "results.png", dpi=130)


if __name__ == "__main__":
    main()
