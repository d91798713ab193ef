# Everything a person or a machine does with this checkout. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types layers scripts screenshots fuzz explore lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## make the environment in .venv, and install missing system packages when root

$(VENV)/.ready: requirements.lock pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" sh scripts/setup.sh $(VENV)

demo: setup ## one machine becomes a cloud; ARGS=--once ends it after the checks
	$(BIN)/headframe demo $(ARGS)

test: setup ## all tests
	$(BIN)/python -m pytest $(ARGS)

check: setup lint types layers scripts test fuzz ## what must hold before a change lands

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

scripts: ## the types of the console's scripts, where npm is at hand
	sh scripts/check_js.sh

screenshots: setup ## every page of the console on a lively example, in both themes and three widths, into screenshots/
	$(BIN)/python scripts/screenshots.py $(ARGS)

fuzz: setup ## five minutes of hostile requests against the API
	$(BIN)/python -m pytest tests/api/fuzz.py

explore: setup ## the property tests with new examples, other ones each time
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest tests/property $(ARGS)

lock: setup ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --all-extras --universal --generate-hashes \
	  --no-annotate --no-header --no-emit-index-url -o requirements.lock

clean: ## remove what setup and tests left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
