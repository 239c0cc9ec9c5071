# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pins what is known to work together. A GPU host builds its environment by hand, see README.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo test faults lint format docs bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prelabel needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/prelabel demo

test: setup lint
	$(BIN)/python -m pytest

# Items in a job. Larger jobs meet more faults, and longer ones.
N ?= 20000

faults: setup
	$(BIN)/python -m pytest tests/faults --fault-items $(N) --timeout 3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

bench: setup
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.ledger_cost
	$(BIN)/python -m benchmarks.memory --items 100000
	$(BIN)/python -m benchmarks.rescore

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache *.egg-info
