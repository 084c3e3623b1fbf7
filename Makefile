# Each target sets up what it needs; `make setup` is the only one that installs.
PYTHON ?= python3
BIN := .venv/bin
# Byte code is what keeps start-up fast: let the interpreter write it.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup demo test lint bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml dev-requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable . --requirement dev-requirements.txt
	$(BIN)/python -m compileall -q src .venv/lib || true
	touch $@

demo: setup
	$(BIN)/python demo/run.py

test: setup
	$(BIN)/python -m pytest -p no:cacheprovider $(ARGS)

lint: setup
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m mypy

bench: setup
	$(BIN)/python bench/run.py $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
