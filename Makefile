# `make demo` and `make test` set up everything they need in .venv, with PYTHON (3.10 or newer) and pip alone.

PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
DEMO_DIR ?= packnet-demo
JOBS ?= 2

MUTATIONS ?= 20000
KILLS ?= 300
DISKS ?= 60

.PHONY: help demo test test-aarch64 lint unit fuzz test-faults docs package benchmarks clean

help:
	@echo "make demo          install, then train, verify, export and measure the quickstart"
	@echo "make test          install, then lint, type checks and every test"
	@echo "make test-aarch64  the C++ runtime for 64-bit ARM, run by qemu"
	@echo "make lint          ruff, mypy and the import rules"
	@echo "make docs          the documentation as a site, in site/; a broken link fails"
	@echo "make package       sdist and wheel, in dist/, checked"
	@echo "make fuzz          MUTATIONS=20000 damaged files of each format: C++ against Python, graphs, checkpoints"
	@echo "make test-faults   every command that writes, killed KILLS=300 times and on DISKS=60 full disks, with a table"
	@echo "make benchmarks    the figures of docs/benchmarks.md, measured here"
	@echo "make clean         remove the environment and everything made"

demo: $(VENV)/train.installed
	$(BIN)/packnet demo --output $(DEMO_DIR)

test: lint unit

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The files of a test run share no state, so they run side by side; one thread each, or they fight for the cores.
unit: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile

test-aarch64: $(VENV)/dev.installed
	PACKNET_AARCH64=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/engines/test_aarch64.py

docs: $(VENV)/docs.installed
	$(BIN)/mkdocs build --strict

package: $(VENV)/docs.installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

fuzz: $(VENV)/dev.installed
	PACKNET_MUTATIONS=$(MUTATIONS) OMP_NUM_THREADS=1 $(BIN)/pytest tests/engines/test_cpp_conformance.py tests/runners/test_graph_fuzz.py

test-faults: $(VENV)/dev.installed
	PACKNET_KILLS=$(KILLS) PACKNET_DISKS=$(DISKS) OMP_NUM_THREADS=1 $(BIN)/pytest -s tests/faults

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

$(VENV)/docs.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site packnet-demo
