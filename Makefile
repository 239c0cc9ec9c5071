# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pins what is known to work together. A GPU host builds its environment by hand, see README.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo test faults lint format bench clean

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

# Tables on the terminal, figures in build/bench/*.json. About an hour on two cores; each line runs alone, too.
# PEERS are the slow ones on the full-size model: an image of theirs costs 50 forward passes at 1,000 labels.
PEERS ?= 2

bench: setup
	$(BIN)/python -m benchmarks.throughput --size 640x480 1920x1080 4000x3000
	$(BIN)/python -m benchmarks.throughput --checkpoint base --only limit --labels 20 --images 16 \
	  --size 640x480 1920x1080 4000x3000 --json build/bench/throughput-limit.json
	$(BIN)/python -m benchmarks.throughput --checkpoint base --images 8 --rounds 2 --peer-images $(PEERS) \
	  --json build/bench/throughput-base.json
	$(BIN)/python -m benchmarks.rescore
	$(BIN)/python -m benchmarks.queue_cost
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.ledger_cost
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.latency --checkpoint base --images 10 --json build/bench/latency-base.json
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.worker_memory
	$(BIN)/python -m benchmarks.pipeline_picture --svg build/bench/pipeline.svg

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
