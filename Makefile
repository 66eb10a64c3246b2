# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
# Pinned because a bare 'torch' may bring a build several gigabytes larger than this one needs.
TORCH  ?= torch==2.13.0
VENV   ?= .venv
# Processes that share the tests; each takes up to 3 GB.
WORKERS ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint bench install clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@

demo: $(STAMP)  ## the main job: a real LLM's classifier into an 11-qubit circuit
	$(BIN)/qkd distill

test: $(VENV)/.test  ## every test, on two cores
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup

lint: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

bench: $(VENV)/.test .venv-bench/.installed .venv-mindquantum/.installed  ## writes benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

.venv-bench/.installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet pennylane pennylane-lightning tensorcircuit-ng jax jaxlib
	touch $@

.venv-mindquantum/.installed:
	$(PYTHON) -m venv .venv-mindquantum
	.venv-mindquantum/bin/python -m pip install --quiet mindquantum
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .venv-mindquantum build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
