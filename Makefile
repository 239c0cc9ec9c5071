# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Pins what is known to work together. A GPU host builds its environment by hand, see README.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo demo-label-studio test label-studio browser faults week referee compose-test lint format docs bench dist \
	release-check audit clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prelabel needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/prelabel demo

demo-label-studio: setup
	@$(BIN)/prelabel demo --label-studio

test: setup lint label-studio browser
	$(BIN)/python -m pytest

# The browser test drives a Chromium: on Debian it is installed where we may; without one the test is skipped.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "installing chromium for the browser test" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "no chromium here: the browser test is skipped"

# A real Label Studio in an environment of its own below the user's cache folder; made once.
label-studio: setup
	@$(BIN)/python -m prelabel.worker.demo.label_studio.install

# Items in a job. Larger jobs meet more faults, and longer ones.
N ?= 20000

faults: setup
	$(BIN)/python -m pytest tests/faults --fault-items $(N) --timeout 3600

# A labeling lead's week against a real Label Studio, with a project of N tasks; prints what was shown meanwhile.
week: setup label-studio
	$(BIN)/python -m pytest tests/label_studio_server/test_week.py -s --week-tasks $(N) --timeout 3600

# Whether prelabel reads what a browser shows: every image below IMAGES and damaged COPIES of it, through both. Pillow's own
# test images are a good folder: Tests/images of its sdist (pip download --no-deps --no-binary pillow pillow).
COPIES ?= 2

referee: setup browser
	@test -d "$(IMAGES)" || { echo "make referee IMAGES=FOLDER: a folder of image files"; exit 2; }
	$(BIN)/python -m tests.referee "$(IMAGES)" --copies $(COPIES)

# Builds and starts docker-compose.yml with the engine of DOCKER_HOST; see tests/compose/test_engine.py.
compose-test: setup
	COMPOSE_TEST=1 $(BIN)/python -m pytest tests/compose/test_engine.py -s

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

# Tables on the terminal, figures in build/bench/*.json. About an hour and a half on two cores; each line runs alone, too.
# PEERS are the slow ones on the full-size model: an image of theirs costs 50 forward passes at 1,000 labels.
PEERS ?= 2

bench: setup label-studio
	$(BIN)/python -m benchmarks.throughput --size 640x480 1920x1080 4000x3000
	$(BIN)/python -m benchmarks.throughput --checkpoint base --only limit --labels 20 --images 16 \
	  --size 640x480 1920x1080 4000x3000 --json build/bench/throughput-limit.json
	$(BIN)/python -m benchmarks.throughput --checkpoint base --images 8 --rounds 2 --peer-images $(PEERS) \
	  --json build/bench/throughput-base.json
	$(BIN)/python -m benchmarks.rescore
	$(BIN)/python -m benchmarks.rescore_job
	$(BIN)/python -m benchmarks.queue_cost
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.host_rate
	$(BIN)/python -m benchmarks.decoders
	$(BIN)/python -m benchmarks.ledger_cost
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.latency --checkpoint base --images 10 --json build/bench/latency-base.json
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.worker_memory
	$(BIN)/python -m benchmarks.label_studio
	$(BIN)/python -m benchmarks.push_cost
	$(BIN)/python -m benchmarks.pipeline_picture --svg build/bench/pipeline.svg

# ---- releases: what is built is installed into an environment of its own, and that is what is looked at.
RELEASE := .release
TOOLS := $(RELEASE)/tools/bin
CLEAN := $(RELEASE)/clean

# Built anew when something in it has changed.
$(RELEASE)/.built: pyproject.toml README.md LICENSE $(shell find schemas integrations worker -type f -not -name '*.pyc') \
		| setup
	rm -rf dist build
	$(BIN)/python -m build
	mkdir -p $(RELEASE) && touch $@

dist: $(RELEASE)/.built

$(RELEASE)/tools/.installed: deploy/release-tools.txt
	$(PYTHON) -m venv $(RELEASE)/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(CLEAN)/.installed: $(RELEASE)/.built constraints.txt
	$(PYTHON) -m venv --clear $(CLEAN)
	$(CLEAN)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		"$$(ls dist/*.whl)[all]"
	touch $@

# The wheel and the sdist, and of everything prelabel[all] brings the licences and a bill of materials (CycloneDX).
release-check: $(RELEASE)/tools/.installed $(CLEAN)/.installed
	$(TOOLS)/twine check --strict dist/*
	$(CLEAN)/bin/python -m pip check
	$(CLEAN)/bin/prelabel --version
	$(TOOLS)/pip-licenses --python $(CLEAN)/bin/python --format markdown --with-urls --order license \
		--output-file dist/licences.md \
		--partial-match --fail-on "AGPL;GNU Affero;GNU General Public License;GPL-2.0-only;GPL-3.0-only"
	$(TOOLS)/cyclonedx-py environment $(CLEAN)/bin/python --pyproject pyproject.toml --mc-type library \
		--output-reproducible --output-file dist/sbom.cdx.json

# Asks PyPI's advisory database about every package of that environment; what could not be asked about is a failure too.
audit: $(RELEASE)/tools/.installed $(CLEAN)/.installed
	$(CLEAN)/bin/python -m pip freeze --all | sed -e '/^prelabel /d' -e 's/+.*//' > $(RELEASE)/requirements.txt
	$(TOOLS)/pip-audit --strict --no-deps --disable-pip --requirement $(RELEASE)/requirements.txt

clean:
	rm -rf $(VENV) $(RELEASE) build dist site .pytest_cache .mypy_cache .ruff_cache *.egg-info
