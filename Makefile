# `make demo` and `make test` set up everything they need in .venv, with PYTHON (3.10 or newer) and pip alone.

PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
DEMO_DIR ?= .
JOBS ?= 2

.PHONY: help demo test lint unit benchmarks clean

help:
	@echo "make demo        install, then train, verify, export and measure the quickstart"
	@echo "make test        install, then lint, type checks and every test"
	@echo "make lint        ruff, mypy and the import rules"
	@echo "make benchmarks  the figures of docs/benchmarks.md, measured here"
	@echo "make clean       remove the environment and everything made"

demo: $(VENV)/train.installed
	cd $(DEMO_DIR) && $(BIN)/packnet demo

test: lint unit

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The files of a test run share no state, so they run side by side; one thread each, or they fight for the cores.
unit: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

benchmarks: $(VENV)/dev.installed
	for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, not " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/train.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	touch $@

$(VENV)/dev.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/train.installed

clean:
	rm -rf $(VENV) build dist quickstart.pack quickstart.train letters.onnx digits.onnx textures.onnx
