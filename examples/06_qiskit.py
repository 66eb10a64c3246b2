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
# # The engines inside plain Qiskit
#
# This notebook needs no teacher and no text. `StatevectorEstimator` and `LightConeEstimator` are V2 primitives, and
# `EngineGradient` is a gradient of Qiskit Machine Learning. They fit wherever Qiskit's own fit, and one backward sweep
# gives exact gradients instead of two circuits per parameter.

# %%
# %matplotlib inline
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from qiskit.primitives import StatevectorEstimator as QiskitEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qkd import circuits
from qkd.engines import EngineGradient, LightConeEstimator, StatevectorEstimator

student = circuits.load("hardware", qubits=6, layers=2)


def qnn(estimator, gradient=None):
    return EstimatorQNN(
        circuit=student.circuit,
        observables=list(student.observables),
        input_params=list(student.inputs),
        weight_params=list(student.weights),
        estimator=estimator,
        gradient=gradient,
        input_gradients=True,
        default_precision=0.0,
    )


engine = StatevectorEstimator()
stock, ours = qnn(QiskitEstimator()), qnn(engine, EngineGradient(engine))

# %% [markdown]
# ## A stock `EstimatorQNN`, backward
#
# Both have four rows, six qubits, thirty weights and six observables. The gradients agree to rounding errors.

# %%
rng = np.random.default_rng(0)
x, w = rng.normal(size=(4, 6)), rng.normal(size=len(student.weights))
seconds, gradients = {}, {}
for name, network in {"Qiskit, parameter shift": stock, "qkd, reverse mode": ours}.items():
    started = time.perf_counter()
    gradients[name] = network.backward(x, w)
    seconds[name] = time.perf_counter() - started
one, other = gradients.values()
print("largest difference", max(np.abs(a - b).max() for a, b in zip(one, other)))

figure, axes = plt.subplots(figsize=(7, 1.6), layout="constrained")
bars = axes.barh(list(seconds), list(seconds.values()), color=["#9aa5b1", "#2563eb"])
axes.bar_label(bars, [f"{value:.3f} s" for value in seconds.values()], padding=4)
axes.set(xscale="log", xlabel="seconds for one backward pass")
axes.margins(x=0.2)
plt.show()

# %% [markdown]
# ## Under `TorchConnector`
#
# The data are two interleaved half circles. One linear layer is before the circuit and one behind it.

# %%
torch.manual_seed(0)
t = torch.rand(120) * np.pi
label = (torch.arange(120) % 2).long()
points = torch.stack([torch.cos(t) * (1 - 2 * label) + label, torch.sin(t) * (1 - 2 * label) + 0.5 * label], dim=1)
points = points + 0.1 * torch.randn(120, 2)

model = torch.nn.Sequential(torch.nn.Linear(2, 6), TorchConnector(ours), torch.nn.Linear(6, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
losses = []
for _ in range(25):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(points), label)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

grid = torch.stack(torch.meshgrid(torch.linspace(-1.6, 2.6, 40), torch.linspace(-1.2, 1.7, 40), indexing="xy"), dim=-1)
with torch.no_grad():
    surface = model(grid.reshape(-1, 2)).softmax(dim=1)[:, 1].reshape(40, 40)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(losses, color="#2563eb")
left.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None))
right.contourf(grid[..., 0], grid[..., 1], surface, levels=20, cmap="RdBu", vmin=0, vmax=1)
right.scatter(*points.T, c=label, cmap="RdBu", edgecolor="black", lw=0.5, s=18)
plt.show()

# %% [markdown]
# ## A small VQE, with and without noise
#
# The VQE finds the ground state of a transverse-field Ising chain of eight spins. The light-cone engine optimizes the
# same circuit under depolarizing noise with exact values, without shots.

# %%
from qiskit_aer.noise import NoiseModel, depolarizing_error

n = 8
ansatz = circuits.load("hardware", qubits=n, layers=2)
terms = [("ZZ", [q, q + 1], -1.0) for q in range(n - 1)] + [("X", [q], -0.7) for q in range(n)]
energy = SparsePauliOp.from_sparse_list(terms, n)
ground = np.linalg.eigvalsh(energy.to_matrix())[0]

noise = NoiseModel()
noise.add_all_qubit_quantum_error(depolarizing_error(0.001, 1), ["ry", "rz"])
noise.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cz"])

curves = {}
for name, chosen in {"ideal": StatevectorEstimator(), "noisy": LightConeEstimator(noise_model=noise)}.items():
    program = chosen.compile(ansatz.circuit, [energy], [], list(ansatz.parameters))
    values = torch.full((len(ansatz.parameters),), 0.3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([values], lr=0.08)
    curves[name] = []
    for _ in range(120):
        optimizer.zero_grad()
        value = program(torch.zeros(1, 0, dtype=torch.float64), values)[0, 0]
        value.backward()
        optimizer.step()
        curves[name].append(value.item())

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, curve), color in zip(curves.items(), ("#2563eb", "#d97706")):
    axes.plot(curve, color=color, label=f"{name}: {curve[-1]:.3f}")
axes.axhline(ground, color="black", lw=0.8, ls=":", label=f"exact ground state: {ground:.3f}")
axes.set(xlabel="step", ylabel="energy")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The same program runs as a V2 primitive, like Qiskit's own:

# %%
bound = values.detach().numpy()
order = [list(ansatz.parameters).index(p) for p in ansatz.circuit.parameters]
pub = (ansatz.circuit, [energy], bound[order])
for name, estimator in {"Qiskit": QiskitEstimator(), "qkd": StatevectorEstimator()}.items():
    print(name, estimator.run([pub]).result()[0].data.evs)
