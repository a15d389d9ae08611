# Ringfence. `make` alone lists the targets. Each works on a fresh clone: what it needs it installs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced

.PHONY: help demo test test-fast test-kernel check format bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -ts $$'\t'

$(STAMP): pyproject.toml uv.lock setup.py scripts/setup $(wildcard src/ringfence/*/*.c src/ringfence/*/*/*.c)
	@scripts/setup
	@touch $@

demo: $(STAMP) ## discover, map, segment and defend a real estate of hosts (root on Linux; else the recorded one)
	@scripts/setup --system
	@$(BIN)/ringfence lab demo

test: $(STAMP) ## everything CI runs: house rules, types, unit, differential, kernel
	@scripts/setup --system
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -n 2 -m "not kernel" tests
	@$(BIN)/pytest -m kernel tests

test-fast: $(STAMP) ## tests without the kernel ones
	@$(BIN)/pytest -n 2 -m "not kernel" tests

test-kernel: $(STAMP) ## tests with real packets (root)
	@scripts/setup --system
	@$(BIN)/pytest -m kernel tests

check: $(STAMP) ## format, lint, types and import contracts, in seconds
	@$(BIN)/ruff format --check -q src tests bench || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check -q src tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## write the canonical format
	@$(BIN)/ruff format -q src tests bench
	@$(BIN)/ruff check -q --fix src tests bench

bench: $(STAMP) ## ratios against peers and physical limits
	@scripts/setup --system --bench
	@$(BIN)/python -m bench

clean: ## remove what was built
	rm -rf $(VENV) build src/*.egg-info
	find src -name '*.so' -delete
