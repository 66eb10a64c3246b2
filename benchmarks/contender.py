"""The task and the timing that all contenders share.

A task is a JSON file, so that each framework runs in an environment of its own on the very same circuit::

    {"n": 11, "num_inputs": 11, "num_weights": 144, "batch": 64, "seed": 0, "repeats": 7,
     "gates": [["rx", [0], ["input", 0]], ["rzz", [1, 2], ["weight", 3]], ["cx", [1, 2], null], ...]}

Every observable is Z on one qubit. The answer is the (B,n) expectation values and the gradient of their plain sum
with respect to inputs (B,A) and weights (P,). This file needs NumPy alone.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np


def task() -> dict:
    """Return the task named on the command line, with its random inputs (B,A) and weights (P,)."""
    given = json.loads(Path(sys.argv[1]).read_text())
    rng = np.random.default_rng(given["seed"])
    given["weights"] = rng.uniform(-np.pi, np.pi, given["num_weights"])  # first, so that no batch size changes them
    given["inputs"] = rng.uniform(-np.pi, np.pi, (given["batch"], given["num_inputs"]))
    return given


def measure(
    step: Callable[[np.ndarray, np.ndarray], tuple], given: dict, packages: tuple[str, ...], prepared: float = 0.0
) -> None:
    """Time ``step(inputs, weights) -> (evs, input gradients, weight gradients)`` and print the result as JSON.

    Args:
        step: one forward and backward pass over the batch, arrays in and out.
        given: the task.
        packages: whose versions are reported.
        prepared: seconds spent on building the circuit before the first step.
    """
    inputs, weights = given["inputs"], given["weights"]
    started = time.perf_counter()
    evs, input_gradients, weight_gradients = step(inputs, weights)
    first = time.perf_counter() - started + prepared
    seconds = []
    for repeat in range(given["repeats"]):
        moved = weights + 1e-3 * (repeat + 1)  # weights change in every step of training
        started = time.perf_counter()
        step(inputs, moved)
        seconds.append(time.perf_counter() - started)
    print(
        json.dumps(
            {
                "first_s": first,
                "step_s": seconds,
                "evs": np.asarray(evs, dtype=float).round(6).tolist()[:2],
                "input_gradients": np.asarray(input_gradients, dtype=float).round(6).tolist()[:2],
                "weight_gradients": np.asarray(weight_gradients, dtype=float).round(6).tolist(),
                "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
            }
        )
    )
