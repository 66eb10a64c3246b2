# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a device does to a student
#
# What a calibration says of a device shrinks expectation values, and a linear head is not hurt by that. What it does not say,
# coherent errors, turns them; that can be learned from a few circuits and trained for. Both on `ibm_brisbane`, as it was
# calibrated on its last snapshot.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import qkd
from qkd.engines import LightConeEstimator
from qkd.reports import aligned, plots

device = qkd.devices.load("ibm_brisbane")
print(device.summary())
print(aligned(qkd.devices.table(device)))

# %% [markdown]
# ## Where the circuit goes
#
# Qubits and couplers differ by a factor of ten on one chip. The layout with the best predicted fidelity, readout included,
# is marked in red.

# %%
compiled = qkd.transpile("hardware", device)
print(aligned(compiled.report.rows()))
compiled.chip()

# %% [markdown]
# ## What the noise does to an expectation value
#
# At random weights and inputs, ideal and noisy values of all eleven observables: they shrink towards zero, some more than
# others, and readout moves them a little.

# %%
small, region = compiled.region()
noise = qkd.devices.noise_model(region)
rng = np.random.default_rng(0)
inputs = torch.tensor(rng.uniform(-3, 3, (200, len(small.inputs))))
weights = torch.tensor(rng.uniform(-3, 3, len(small.weights)))
ideal, noisy = (
    LightConeEstimator(model).compile(small.circuit, small.observables, small.inputs, small.weights)(inputs, weights)
    for model in (None, noise)
)
figure, axes = plt.subplots(figsize=(4.4, 4.2), layout="constrained")
points = axes.scatter(ideal, noisy, s=6, c=np.tile(np.arange(11), (200, 1)), cmap="viridis")
axes.plot([-1, 1], [-1, 1], color="#9aa5b1", lw=1)
axes.set(xlabel="ideal expectation value", ylabel="with the device's noise", aspect="equal")
figure.colorbar(points, label="qubit of the circuit", ax=axes)
kept = [np.polyfit(ideal[:, k], noisy[:, k], 1)[0] for k in range(11)]
print("kept of each value's spread:", " ".join(f"{value:.2f}" for value in kept))

# %% [markdown]
# ## What a calibration does not say
#
# A device that reports what `ibm_brisbane` reports, and turns too far: behind every two-qubit gate there are phases of 0.3 rad,
# drawn by a seed. That is a stress test, seven times what is reported; `hidden` without `stress` draws devices that keep to it.

# %%
hidden = qkd.devices.hidden_device(device, seed=1, stress=True)
qkd.devices.write(hidden.calibration, Path("hidden.json"))
small_one = {"data": "docstrings", "limit": 900, "qubits": 4, "layers": 4, "controls": False}
ideal = qkd.distill(**small_one, name="ideal")

# %% [markdown]
# 256 circuits of the student, at random angles, are enough for the light-cone engine to fit the errors through its own
# gradients: 10 s of a QPU. What is learned is a file that every `device=` takes.

# %%
learned = qkd.learn("hidden.json", ideal.folder.path, local=True).result
left = learned.unexplained
print(f"rms of values that were kept apart: {left.calibration:.3f} off the calibration, {left.learned:.3f} off the fit")

# %% [markdown]
# ## Trained for what the device does
#
# One run trains three students and measures them with the learned errors: without noise (`ideal training`), the same with its
# linear head fitted anew (`head refitted`, the cheap control), and under the errors, with the noise of 16 shots in the loss.

# %%
aware = qkd.distill(
    **small_one, sim="aer-noisy", device=Path(learned.file).as_posix(), train_shots=16, name="aware"
)
print(aware.table())

# %%
plots.accuracies({name: line for name, line in aware.metrics.lines.items() if "ideal device" not in name})

# %% [markdown]
# ## Accuracy against shots, on the device itself
#
# The device with its hidden errors, not what was learned of it. Each text gets so many shots, without mitigation.

# %%
shots = (4, 16, 64, 256, 1024)
figure, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
for run, label, color in ((aware, "trained under what was learned", plots.STUDENT), (ideal, "trained without noise", plots.TEACHER)):
    measured = [
        qkd.run_hardware(run.folder.path, device="hidden.json", local=True, mitigation="none", shots=number)[0].result
        for number in shots
    ]
    accuracy = [one.lines["measured"].accuracy.value for one in measured]
    print(f"{label}: " + ", ".join(f"{value:.3f} at {number}" for number, value in zip(shots, accuracy)))
    axes.plot(shots, accuracy, "o-", color=color, label=label)
axes.set(xscale="log", xlabel="shots for each text", ylabel="accuracy on the hidden device")
axes.legend(frameon=False);

# %% [markdown]
# One seed of one device is no claim. `benchmarks/noise_aware.py` draws the map over depth, noise, shots and seeds.
