# Every target makes the environment it needs, and is quick the second time.
# A fresh machine needs Python 3.11 or newer, git, make, and a network for packages.

VENV := .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS := -n auto --dist loadgroup

.PHONY: help setup demo test test-all lint types bench bench-explanation bench-training bench-validation serve doctor migration lock clean

help:
	@echo "make demo       the whole life of a model, driven through a real server"
	@echo "make test       the tests a contributor runs"
	@echo "make test-all   those and the long ones"
	@echo "make lint types formatting, lint rules, layers; static types"
	@echo "make bench      the figures of docs/BENCHMARKS.md"
	@echo "make serve      the server over stdio"
	@echo "make doctor     check this set-up"
	@echo "make clean      remove the environment and all caches"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

setup: $(READY)

demo: $(READY)
	@$(BIN)/nba-mcp demo $(if $(GAMES),--games $(GAMES))

test: $(READY)
	$(BIN)/python -m pytest $(TESTS) -m "not slow" $(ARGS)

test-all: $(READY)
	@echo "This runs the long tests too. They need nothing beyond 'make test': PostgreSQL comes with the environment."
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy --no-incremental mcp_server  # its cache hides errors that a fresh machine sees

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-explanation: $(READY)
	$(BIN)/python -m benchmarks explanation

bench-validation: $(READY)
	$(BIN)/python -m benchmarks validation

# The peer it is compared with comes with a group of its own.
bench-training: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python -m benchmarks training $(if $(BUDGET),--budget $(BUDGET))

serve: $(READY)
	@$(BIN)/nba-mcp serve

doctor: $(READY)
	@$(BIN)/nba-mcp doctor

# make migration MESSAGE="what changed in stores/schema.py"
migration: $(READY)
	$(BIN)/python -m mcp_server.stores.migrations "$(MESSAGE)"
	$(BIN)/ruff format mcp_server/stores/migrations/versions

# Writes down the versions that are installed now, for everybody else.
lock: $(READY)
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
