# `make help` prints the text after each `##`.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test run serve test test-all lint bench bridge clean
VENV := .venv
CONFIG ?= rosfit-bridge.yaml
# A file's tests share their servers, and so do a folder's, which end with it: hence by file, and in order.
# Three at a time: two wait more than they work.
# With bytecode, whatever the environment says: servers start by the hundred, and compiling takes each half a second.
PYTEST = @env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install RosFit into .venv, and the servers it brings along
	@config/setup.sh run

setup-test:
	@config/setup.sh test

run: setup ## Start RosFit with simulated robots; everything is set up first
	@exec $(VENV)/bin/rosfit serve --demo $(ARGS)

serve: setup ## Start RosFit without robots (ARGS="--port 8080" are passed on)
	@exec $(VENV)/bin/rosfit serve $(ARGS)

test: setup-test lint ## Linters and tests, under ten minutes (ARGS are passed to pytest)
	$(PYTEST) -m "not full" $(ARGS)

test-all: setup-test lint ## The same with the full counts and times
	$(PYTEST) $(ARGS)

lint: setup-test ## ruff, mypy --strict and the import contract
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

bench: setup-test ## Measure throughput, latency and the bridge; writes docs/benchmarks.md
	@$(VENV)/bin/python -m tests.bench $(ARGS)

bridge: setup-test ## Run the robot bridge from .venv (CONFIG=rosfit-bridge.yaml)
	@exec env PYTHONPATH=$(CURDIR)/rosfit_bridge $(VENV)/bin/rosfit-bridge --config $(CONFIG)

clean: ## Remove .venv and caches; data folders stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find rosfit rosfit_bridge tests -name __pycache__ -type d -prune -exec rm -rf {} +
