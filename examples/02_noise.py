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
# # Device noise and a student
#
# The errors of a calibration shrink expectation values, which a linear head compensates. Coherent errors, which a
# calibration omits, rotate them. A few circuits measure these errors, and training can include them. This notebook
# shows both on the last snapshot of `ibm_brisbane`.

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
# ## Layout
#
# Qubits and couplers differ by a factor of ten on one chip. The layout with the best predicted fidelity, readout
# included, is red.

# %%
compiled = qkd.transpile("hardware", device)
print(aligned(compiled.report.rows()))
compiled.chip()

# %% [markdown]
# ## Noisy expectation values
#
# The plot shows ideal and noisy values of all eleven observables at random weights and inputs. Noise shrinks them
# toward zero, some more than others, and readout errors shift them a little.

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
slopes = [np.polyfit(ideal[:, k], noisy[:, k], 1)[0] for k in range(11)]
print("slope of each observable:", " ".join(f"{value:.2f}" for value in slopes))

# %% [markdown]
# ## Errors that a calibration omits
#
# This device has the calibration of `ibm_brisbane`, but every two-qubit gate adds random phases of 0.3 rad. This is a
# stress test with seven times the reported error. Without `stress`, `hidden_device` draws devices with the reported
# one.

# %%
hidden = qkd.devices.hidden_device(device, seed=1, stress=True)
qkd.devices.write(hidden.calibration, Path("hidden.json"))
small_one = {"data": "docstrings", "limit": 900, "qubits": 4, "layers": 4, "controls": False}
ideal = qkd.distill(**small_one, name="ideal")

# %% [markdown]
# The light-cone engine fits the errors with its own gradients to 256 circuits of the student at random angles, 10 s of
# a QPU. The result is a file that every `device=` accepts.

# %%
learned = qkd.learn("hidden.json", ideal.folder.path, local=True).result
residual = learned.unexplained
print(f"rms residual of held-out values: calibration {residual.calibration:.3f}, fit {residual.learned:.3f}")

# %% [markdown]
# ## Training under the learned errors
#
# One run trains three students and measures them with the learned errors. The first trains without noise (`ideal
# training`). The second is the first with its linear head refitted, the cheap control. The third trains under the
# errors, with the noise of 16 shots in the loss.

# %%
aware = qkd.distill(**small_one, sim="aer-noisy", device=Path(learned.file).as_posix(), train_shots=16, name="aware")
print(aware.table())

# %%
plots.accuracies({name: line for name, line in aware.metrics.lines.items() if "ideal device" not in name})

# %% [markdown]
# ## Accuracy against shots on the device
#
# These runs use the device with its hidden errors, not the fit. Each text gets the same number of shots, without
# mitigation.

# %%
shots = (4, 16, 64, 256, 1024)
figure, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
for run, label, color in (
    (aware, "trained under the learned errors", plots.STUDENT),
    (ideal, "trained without noise", plots.TEACHER),
):
    settings = {"device": "hidden.json", "local": True, "mitigation": "none", "quiet": True}
    measured = [qkd.run_hardware(run.folder.path, **settings, shots=number)[0].result for number in shots]
    accuracy = [one.lines["measured"].accuracy.value for one in measured]
    print(f"{label}: " + ", ".join(f"{value:.3f} at {number}" for number, value in zip(shots, accuracy)))
    axes.plot(shots, accuracy, "o-", color=color, label=label)
axes.set(xscale="log", xlabel="shots for each text", ylabel="accuracy on the hidden device")
legend = axes.legend(frameon=False)

# %% [markdown]
# One seed of one device proves nothing. `benchmarks/noise_aware.py` covers depths, noise, shots and seeds.
