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
# # The paper's recipe, beside ours and beside a straight line
#
# QD-LLM (Li et al., arXiv:2505.13205) distils a large language model into eleven qubits. `qkd reproduce qdllm` runs its
# recipe as it is written, with a new model for every seed, beside itself with each slip of its public code, and beside
# students that read the same texts: the default circuit, a linear student without one, a logistic regression.

# %%
# %matplotlib inline
import qkd
from qkd.reports import comparison

beside, slips = ("hardware", "linear", "logreg"), ("js", "carried")
found = qkd.reproduce(seeds=2, students=beside, slips=slips, limit=240, epochs=12)
print(comparison.comparison_text(found))

# %% [markdown]
# ## Who is better
#
# Each dot is the recipe's accuracy minus that of another student on the same texts and seeds; a bar that crosses the
# dotted line is no difference that these texts could show.

# %%
comparison.forest(found)

# %% [markdown]
# ## Who knows when it is wrong

# %%
comparison.reliability_of_students(found)

# %% [markdown]
# ## More texts
#
# `qkd.compare` takes any students, seeds and numbers of training texts; what was trained before is not trained again.

# %%
spec = qkd.CompareSpec(students=("hardware", "linear", "logreg"), seeds=2, train_texts=(40, "all"))
curves = qkd.compare(None, spec, limit=240, epochs=12)
print(curves.conclusion)
comparison.curves(curves)
