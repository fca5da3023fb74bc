# make demo, make check, make test and make lint each set up what they need first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes of one thread each; the tests of a file share what they make.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile

.PHONY: demo check test test-pythons nightly torture lint format bench audit setup

# The five methods on the embedded task, and the report. A second call finds it done.
demo: setup
	$(BIN)/tunewise study studies/pocket_methods.yaml --out runs/demo --jobs 2 --resume
	$(BIN)/tunewise report runs/demo

# The laws of every room, after each change: about two minutes on two cores.
check: setup
	$(PYTEST) -m "not slow and not real_data"

# Everything but the rows of ../shared/data, which `make nightly` reads.
test: setup
	$(PYTEST)

# `make test` with other versions of Python, each in an environment of its own; TARGET=check is sooner.
test-pythons:
	.ci/pythons $(or $(TARGET),test) 3.12 3.13

# What is more about data and chance than about code.
nightly: setup
	$(PYTEST) -m real_data
	TUNEWISE_FUZZ=5000 $(PYTEST) tests/hostile/fuzz

# The long forms of tests that need hours to be sure.
torture: setup
	TUNEWISE_KILLS=200 $(BIN)/pytest tests/runs -k killed
	TUNEWISE_RESUMES=50 $(BIN)/pytest tests/runs/test_one_source.py
	TUNEWISE_FUZZ=50000 $(BIN)/pytest tests/hostile/fuzz -s

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# All items of benchmarks/items.py, or some: make bench ONLY="lora_lm lora_sst5"
bench: setup
	$(BIN)/python -m benchmarks $(ONLY)

# Known-vulnerable versions among those of constraints.txt; it asks PyPI's database over the network.
audit: setup
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.9,<3'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

setup: $(VENV)/installed

# constraints.txt fixes every version; torch's CPU build is asked for by number.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
