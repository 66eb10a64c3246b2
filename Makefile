# Two commands do everything on a fresh machine: make demo, make test. 'make help' lists the rest.
PYTHON ?= python3
# Pinned because a bare 'torch' may bring a build several gigabytes larger than this one needs.
TORCH  ?= torch==2.13.0
VENV   ?= .venv
# Processes that share the tests: three for two cores, since some wait; each takes up to 3 GB.
WORKERS ?= 3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST  = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-faults wheel-test constraints cover lint docs hooks bench install clean

help:  ## list the targets and what may be set
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  set PYTHON=python3.12 VENV=.venv-312 for another Python, TORCH=torch==... , WORKERS=... for the tests"

install: $(STAMP)  ## qkd and what it needs, into $(VENV)

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

test: $(VENV)/.test  ## every test but the slow and the randomized ones
	$(PYTEST)

test-slow: $(VENV)/.test  ## the notebooks, and the tests of Qiskit and of qiskit-machine-learning on our engines
	$(PYTEST) --dist load -m slow tests

test-faults: $(VENV)/.test  ## long randomized tests; QKD_FAULTS=10 makes them ten times as long
	$(PYTEST) -m faults tests

cover: $(VENV)/.test  ## the same tests, and that they reach 90 % of the code
	$(PYTEST) --cov --cov-report=term --cov-fail-under=90

wheel-test:  ## build the wheel and use it in an empty environment; CONSTRAINTS=constraints-lowest.txt for the lowest versions
	PYTHON=$(PYTHON) TORCH="$(TORCH)" CONSTRAINTS=$(CONSTRAINTS) .ci/wheel-test

constraints:  ## write the lowest versions that pyproject.toml admits into constraints-lowest.txt; needs uv
	uv pip compile pyproject.toml --quiet --resolution lowest-direct --python-version 3.11 --no-header --no-annotate \
	  $(addprefix --extra ,api export hf lora ray serve sweep) | grep -Ev '^(nvidia|triton)' > constraints-lowest.txt

docs: $(VENV)/.docs  ## build the documentation site, warnings are errors
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

$(VENV)/.docs: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

lint: $(VENV)/.test  ## ruff, mypy and codespell
	$(BIN)/codespell src docs README.md CONTRIBUTING.md examples/*.py benchmarks/*.py
	$(BIN)/ruff check src tests benchmarks examples docs/conf.py
	$(BIN)/ruff format --check src tests benchmarks examples docs/conf.py
	$(BIN)/mypy

hooks: $(VENV)/.test  ## run ruff, mypy and the architecture test before every commit
	$(BIN)/pre-commit install

bench: $(VENV)/.test .venv-bench/.installed .venv-mindquantum/.installed  ## measure the engines, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

.venv-bench/.installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet pennylane pennylane-lightning tensorcircuit-ng jax jaxlib
	touch $@

.venv-mindquantum/.installed:
	$(PYTHON) -m venv .venv-mindquantum
	.venv-mindquantum/bin/python -m pip install --quiet mindquantum
	touch $@

clean:  ## remove what was made
	rm -rf $(VENV) docs/_build .venv-bench .venv-mindquantum build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
