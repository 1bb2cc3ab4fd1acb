# Each target does its own set-up; `.venv` is made once and again only when pyproject.toml changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: demo test lint types bench examples format clean help
help:          ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

# Azure's own emulator, for the tests of that store; without npm they skip, naming it.
$(VENV)/azurite.stamp: $(VENV)/dev.stamp
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.37.0 || echo "no azurite: its tests skip"; fi
	@touch $@

demo: $(VENV)/demo.stamp   ## real bars: validated, stored, pruned, read back
	$(BIN)/buffetstore demo $(ARGS)

test: $(VENV)/azurite.stamp   ## the test suite (ARGS='-k name' selects)
	$(BIN)/python -m pytest -m 'not benchmark' -n 2 -q $(ARGS)

lint: $(VENV)/dev.stamp    ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp   ## mypy, strict
	$(BIN)/mypy

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

bench: $(VENV)/bench.stamp   ## benchmarks, as ratios beside a peer in the same run
	$(BIN)/python -m pytest -m benchmark -q -s --timeout 900 tests/benchmarks $(ARGS)

examples: $(VENV)/dev.stamp   ## every example script, as the tests run them
	$(BIN)/python -m pytest -q tests/test_examples.py $(ARGS)

format: $(VENV)/dev.stamp  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:         ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
