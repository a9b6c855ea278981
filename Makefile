# Everything runs in .venv, which each verb sets up when it is missing or when its inputs have changed.
# Choose the interpreter with `make PYTHON=/path/to/python3.12 ...`; otherwise the first that works is taken.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Four folders have another name where they are installed (docs/adr/0012); mypy finds them here under that one.
SOURCES := $(VENV)/sources/feature_store_deploy
PYTHON ?=
# A run starts a dozen processes; without bytecode each of them compiles all of Dagster again.
unexport PYTHONDONTWRITEBYTECODE
# uv does not read pip's setting for a mirror
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)

# A name on PATH may be a shim that fails, and Debian ships Python without venv: ask each by running it.
define find_python
for python in $(or $(PYTHON),python3.12 python3.11 python3); do \
  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
  then found=$$python; break; fi; \
done; \
if [ -z "$${found-}" ]; then \
  echo "make: no usable Python in: $(or $(PYTHON),python3.12 python3.11 python3)." >&2; \
  echo "      Python 3.11 or 3.12 with the venv module is needed (on Debian: apt install python3-venv)." >&2; \
  echo "      Name one with: make PYTHON=/path/to/python3.12 ..." >&2; \
  exit 1; \
fi
endef

.PHONY: help demo up test bench chaos lint fix lock clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## the whole pipeline on a year of real flights, a few minutes
	@$(BIN)/feature-store demo

up: $(READY) ## the long-lived stack with its UIs, until Ctrl-C
	@exec $(BIN)/feature-store up

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

bench: $(READY) ## measure, write benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(READY) ## faults at random instants over real processes, an hour
	@$(BIN)/python -m chaos $(if $(BREAK),--seeds 1 --without $(BREAK),$(if $(ARGS),,--hits 20 --rate 50)) $(ARGS)

lint: $(READY) ## formatting, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@mkdir -p $(SOURCES) && cd $(SOURCES) && for folder in assets checks stack streams; do ln -sfn ../../../$$folder $$folder; done
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(READY) ## format, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: $(READY) ## compile requirements/ from pyproject.toml again
	@$(BIN)/uv pip compile $(COMPILE) --group bootstrap -o requirements/bootstrap.txt
	@$(BIN)/uv pip compile $(COMPILE) pyproject.toml --all-extras --group dev -c requirements/bootstrap.txt -o requirements/dev.txt
	@$(BIN)/uv pip compile $(COMPILE) --group dask -c requirements/dev.txt -o requirements/dask.txt

# One file for both Pythons and every platform, with hashes and without any index or address.
COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade

clean: ## remove the environment, caches and the demo's data
	rm -rf $(VENV) .feature_store build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Without build isolation, what comes as source is built by the pinned setuptools of bootstrap.txt.
$(READY): requirements/bootstrap.txt requirements/dev.txt requirements/dask.txt pyproject.toml setup.py
	@$(find_python); echo "setting up $(VENV) with $$($$found -V)"; $$found -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-build-isolation -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --target $(VENV)/dask -r requirements/dask.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
