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
# # From a run to a file, a page and a server
#
# A student that reads hashed n-grams needs no transformer. Exported, it needs neither torch nor Qiskit: a folder of 100
# kB with one Python file, an ONNX graph, or an HTML page that classifies while a person types.

# %%
# %matplotlib inline
import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import qkd
from qkd.student.deferral import risk_coverage

run = qkd.distill(data="docstrings", limit=1200, encoder="hashing", circuit="hardware", epochs=40)
print(run.table())
student, texts = run.student, [row.text for row in run.predictions]

# %% [markdown]
# ## The classical form
#
# With its weights fixed, each expectation value of the circuit is a multilinear function of (1, cos x, sin x) of the
# angles in its light cone. `classical()` returns the coefficients, split between two halves of the angles.

# %%
form = student.classical()
embeddings = student.encoder.encode(texts)
print(f"{form.core.num_numbers:,} coefficients; largest difference of a logit from the engine:")
print(np.abs(form.logits(embeddings) - student.logits(texts)).max())

# %%
contraction = form.core.contractions[5]
figure, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
for axis, half, name in zip(axes, (contraction.left, contraction.right), ("left", "right"), strict=True):
    image = axis.imshow(half, aspect="auto", cmap="RdBu", vmin=-abs(half).max(), vmax=abs(half).max())
    axis.set(xlabel="rank", ylabel="product of features", title=f"observable 5, {name} half")
    figure.colorbar(image, ax=axis)

# %% [markdown]
# ## Exports
#
# Every export is loaded by its own runtime, without qkd, and compared with the student before it is kept.

# %%
folder = Path("exports")
for name, options in (("numpy", {}), ("page", {}), ("onnx", {"inputs": "embeddings"}), ("qasm", {})):
    print(student.export(folder / name, name, texts=texts[:100], **options).describe())

# %% [markdown]
# The numpy export is a program, too. Its answers are those of the student.

# %%
command = [sys.executable, "classify.py", texts[0], texts[1]]
print(subprocess.run(command, cwd=folder / "numpy", capture_output=True, text=True, check=True).stdout)

# %%
sys.path.insert(0, str(folder.resolve() / "numpy"))
from classify import predict_proba

shares = predict_proba(texts)
figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
axis.plot([0, 1], [0, 1], color="0.8")
axis.plot(student.predict_proba(texts).max(axis=1), shares.max(axis=1), ".", markersize=4)
lines = axis.set(xlabel="largest probability, student", ylabel="the same, numpy export")

# %%
seconds = {}
for name, classify in (("qkd", student.predict_proba), ("numpy export", predict_proba)):
    classify(texts)
    started = time.perf_counter()
    classify(texts)
    seconds[name] = (time.perf_counter() - started) / len(texts)
print(json.dumps({name: f"{1e3 * value:.3f} ms per text" for name, value in seconds.items()}, indent=1))

# %% [markdown]
# ## A cascade
#
# The student answers the texts of which it is sure; the language model, or a person, answers the others. The threshold
# comes from the run's validation texts with a Clopper-Pearson bound, so the error rate among answered texts stays below
# the risk with 95 % confidence.

# %%
answers = student.defer(texts, risk=0.2)
print(answers.deferral.describe())
correct = np.array([row.label == label for row, label in zip(run.predictions, student.predict(texts), strict=True)])
print(f"test texts: {answers.answered.mean():.0%} answered, {(~correct[answers.answered]).mean():.1%} of them wrong")

# %%
curve = risk_coverage(answers.probabilities.max(axis=1), correct)
figure, axis = plt.subplots(figsize=(5, 3.4), layout="constrained")
axis.fill_between(curve.coverage, curve.low, curve.high, alpha=0.2)
axis.plot(curve.coverage, curve.risk)
axis.axhline(0.2, color="0.6", linestyle="--")
labels = axis.set(xlabel="share of texts answered", ylabel="error rate among them", ylim=(0, 0.6))

# %% [markdown]
# ## A server
#
# `qkd serve RUN` answers HTTP requests on this machine; see [docs/guides/export.md](../docs/guides/export.md).
