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
# The same eleven-qubit student, once on an ideal machine and once with the noise of a real one: `ibm_brisbane` as it was
# calibrated on its last snapshot. Training under the noise takes exact gradients; the result is measured on AerSimulator,
# with shots.

# %%
# %matplotlib inline
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
# ## Training with the noise, and without it
#
# One run trains both and measures both on AerSimulator with the device's noise. `ideal training` is the student that never
# saw noise before it met the device.

# %%
run = qkd.distill(data="docstrings", limit=700, sim="aer-noisy", device="ibm_brisbane")
print(run.table())

# %%
plots.accuracies(run.metrics["lines"])

# %%
gain = run.metrics["noise"]["gain"]
print(
    f"training under the noise: {100 * gain['value']:+.1f} points of accuracy on the device "
    f"(95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}, same texts)"
)

# %% [markdown]
# Two layers on a good line keep more than nine tenths of each value, and a linear head is not hurt by that: where the
# interval holds zero, noise-aware training bought nothing that these texts can show. The report says so.
