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
# # A language model's classifier in eleven qubits
#
# A 135-million-parameter language model learns to predict the library of a docstring. Then a quantum circuit of eleven
# qubits learns to reproduce its logits. Everything runs on this machine; PyPI provides the two models.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch

import qkd
from qkd.reports import plots
from qkd.student import softmax

run = qkd.distill(data="docstrings", limit=1200)
print(run.table())

# %% [markdown]
# Brackets are 95 % intervals. The line `majority` always predicts the most frequent class.
#
# ## Training

# %%
best = run.metrics.student.best_epoch
plots.learning(run.history, best)

# %%
plots.accuracies(run.metrics.lines)

# %% [markdown]
# ## The circuit
#
# The encoder gives 384 numbers for each layer that the student reads. A linear map turns them into eleven angles, the
# circuit turns the angles into eleven expectation values, and a linear head turns these into logits.

# %%
student = run.student
drawing = student.model.circuit.circuit.draw("mpl", fold=-1, scale=0.6)

# %% [markdown]
# ## From texts to expectation values
#
# Each row is a qubit's expectation value of Z, each column a test text, ordered by class. The head sees this pattern.

# %%
rows = sorted(run.predictions, key=lambda row: row.label)
embeddings = torch.as_tensor(student.encoder.encode([row.text for row in rows]))
with torch.no_grad():
    angles = student.model.angles(embeddings)
    evs = student.model.core(angles)

figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
image = axes.imshow(evs.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
edges = np.cumsum([sum(row.label == name for row in rows) for name in student.classes])
for edge in edges[:-1]:
    axes.axvline(edge - 0.5, color="black", lw=1)
axes.set_xticks((np.concatenate([[0], edges[:-1]]) + edges) / 2, student.classes)
axes.set(ylabel="qubit", yticks=range(0, 11, 2))
figure.colorbar(image, label=r"$\langle Z \rangle$")
plt.show()

# %% [markdown]
# ## Teacher and student, text by text

# %%
teacher = softmax(np.array([row.teacher for row in run.predictions]))
answers = softmax(np.array([row.student for row in run.predictions]))
plots.agreement(teacher, answers)

# %% [markdown]
# ## New text
#
# The student is a folder, the bundle. It needs neither the teacher nor the training data.

# %%
student = qkd.Student.load("runs/latest")
texts = [
    "Return a tensor filled with random numbers from a normal distribution.",
    "Draw a line plot with markers on the given axes.",
    "Append a controlled rotation to the circuit.",
    "Convert the index of the frame to datetime.",
]
for text, row in zip(texts, student.predict_proba(texts), strict=True):
    print(f"{student.classes[row.argmax()]:>14} {row.max():.2f}  {text}")
