# make demo, make test and make lint each set up what they need first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test torture lint format bench audit setup

# The five methods on the embedded task, and the report. A second call finds it done.
demo: setup
	$(BIN)/tunewise study studies/pocket_methods.yaml --out runs/demo --jobs 2 --resume
	$(BIN)/tunewise report runs/demo

# Two processes of one thread each; the tests of a file share what they make.
test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# The long forms of tests that need hours to be sure.
torture: setup
	TUNEWISE_KILLS=200 $(BIN)/pytest tests/test_resuming.py -k killed
	TUNEWISE_FUZZ=50000 $(BIN)/pytest tests/hostile/test_fuzz.py -s

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

setup: .venv/installed

# constraints.txt fixes every version; torch's CPU build is asked for by number.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
