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
# # Ten minutes of a QPU a month
#
# A rehearsal repeats a device run offline: the same compilation, the same mitigation, and shots drawn from the exact
# values under the device's calibrated noise. The benefit and the cost of a setting are known before any job is
# submitted. This notebook trains a small student, rehearses it on the snapshot of `ibm_brisbane`, estimates, submits
# and collects.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt

import qkd
from qkd.hardware import collect, list_jobs
from qkd.reports import aligned, device_table, plots

trained = qkd.distill(data="docstrings", limit=900, qubits=6, layers=1)
print(trained.table())

# %% [markdown]
# ## Cost
#
# `dry_run` stops after the estimate. `confirm=` takes a function that gets each plan and returns whether to submit it,
# like the question on the command line. A job costs two seconds. An execution costs the device's delay between shots
# and the circuit's duration; qkd counts executions in the client's program.

# %%
settings = {"run": trained.folder.path, "device": "ibm_brisbane", "local": True, "samples": 24, "shots": 4096}
plans = []
for name in ("none", "readout", "affine", "zne", "pec"):
    [outcome] = qkd.run_hardware(**settings, mitigation=name, dry_run=True, quiet=True)
    plans.append(outcome.plan)
print(
    aligned(
        [("mitigation", "executions", "QPU seconds")]
        + [(plan.mitigation.name, f"{plan.budget.executions:,}", f"{plan.budget.seconds:,.0f}") for plan in plans]
    )
)

# %% [markdown]
# ## Rehearse
#
# The three rehearsals have no mitigation, maps fitted on points with known exact values (`affine`, the default), and
# zero-noise extrapolation.

# %%
results = []
for name in ("none", "affine", "zne"):
    [outcome] = qkd.run_hardware(**settings, mitigation=name)
    results.append(outcome.result)
print(device_table(results))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
names = [result.mitigation.name for result in results]
errors = [result.rms for result in results]
left.bar(names, [one.value for one in errors], color=plots.STUDENT)
left.errorbar(
    names,
    [one.value for one in errors],
    color=plots.INK,
    ls="none",
    capsize=4,
    yerr=[[one.value - one.low for one in errors], [one.high - one.value for one in errors]],
)
left.set(ylabel="RMS error of expectation values")
right.bar(names, [result.qpu_seconds_estimated for result in results], color=plots.TEACHER)
labels = right.set(ylabel="QPU seconds, estimated")

# %% [markdown]
# The plots show measured against exact values, one dot for each text and observable. Without mitigation the line is
# flatter, because noise shrinks expectation values toward zero and readout errors shift them.

# %%
plots.scatter(results[0])

# %%
plots.scatter(results[2])

# %% [markdown]
# ## How many shots
#
# 4,096 shots are for expectation values. A class needs far fewer. The plot shows accuracy against QPU seconds for all
# test texts; `auto`, the default, takes the smallest number at which at most 5 % of the predictions are unclear.

# %%
all_texts = {key: value for key, value in settings.items() if key not in ("samples", "shots")}
measured = {}
for number in (8, 16, 32, 64, 256, "auto"):
    [outcome] = qkd.run_hardware(**all_texts, shots=number, max_qpu_seconds=300, quiet=True)
    result = outcome.result
    measured[number] = result.qpu_seconds_estimated, result.lines["measured"].accuracy.value
exact = result.lines["exact"].accuracy.value
figure, axes = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
fixed = [measured[number] for number in measured if number != "auto"]
axes.plot(*zip(*fixed), "o-", color=plots.TEACHER, label="a fixed number")
for number, (seconds, accuracy) in measured.items():
    if number != "auto":
        axes.annotate(f"{number}", (seconds, accuracy), xytext=(4, -12), textcoords="offset points", fontsize=8)
axes.plot(*measured["auto"], "D", color=plots.STUDENT, label="auto")
axes.axhline(exact, color="#9aa5b1", lw=1, label="exact values")
axes.set(xscale="log", xlabel="seconds of the QPU, estimated", ylabel="accuracy")
axes.legend(frameon=False)
print(
    aligned(
        [("shots", "QPU seconds", "accuracy")]
        + [(str(number), f"{seconds:.1f}", f"{accuracy:.3f}") for number, (seconds, accuracy) in measured.items()]
        + [("infinite", "", f"{exact:.3f}")]
    )
)

# %% [markdown]
# ## Submit now, collect later
#
# On a device, `detach=True` returns after submission. The ledger records every job before it is submitted. `collect`
# fetches finished jobs, in this process or another. Before it submits a job, it looks for that job on the service.

# %%
[submitted] = qkd.run_hardware(**settings | {"mitigation": "readout", "samples": 8}, detach=True)
collect(trained.folder.path)
rows, damaged = list_jobs(trained.folder.path)
print(
    aligned(
        [("run", "job", "mitigation", "texts", "state")]
        + [(row["plan"], str(row["job"]), row["mitigation"], str(row["texts"]), row["state"]) for row in rows]
    )
)

# %% [markdown]
# ## Unclear predictions
#
# A prediction is unclear if its margin is below 1.96 standard errors of that margin.

# %%
for row in sorted(results[2].rows, key=lambda row: row.margin)[:5]:
    sure = "unclear" if row.unclear else "clear"
    error = "?" if row.margin_error is None else f"{row.margin_error:.2f}"
    print(f"{row.prediction:12} margin {row.margin:.2f} +- {error:4}  {sure:18} {row.text[:60]}")
