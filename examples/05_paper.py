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
# # The paper's recipe and classical students
#
# QD-LLM (Li et al., arXiv:2505.13205) distills a large language model into eleven qubits. `qkd reproduce qdllm` runs
# the recipe as published, with a new model for every seed, and the recipe with each deviation of the public code. It
# compares them with the default circuit, a linear student without a circuit, and a logistic regression.

# %%
# %matplotlib inline
import qkd
from qkd.reports import comparison

beside, deviations = ("hardware", "linear", "logreg"), ("js", "carried")
reproduction = qkd.reproduce(seeds=2, students=beside, deviations=deviations, limit=240, epochs=12)
print(comparison.report(reproduction).to_text())

# %% [markdown]
# ## Differences
#
# Each dot is the recipe's accuracy minus that of another student on the same texts and seeds. Bars are 95 % intervals.

# %%
comparison.forest(reproduction)

# %% [markdown]
# ## Calibration

# %%
comparison.reliability_of_students(reproduction)

# %% [markdown]
# ## More texts
#
# `qkd.compare` takes any students, seeds and numbers of training texts. It does not repeat finished trials.

# %%
spec = qkd.CompareSpec(students=("hardware", "linear", "logreg"), seeds=2, train_texts=(40, "all"))
curves = qkd.compare(None, spec, limit=240, epochs=12)
print(curves.conclusion)
comparison.curves(curves)
