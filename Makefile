# Ringfence. `make` alone lists the targets. Each works on a fresh clone: what it needs it installs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
WEB := $(VENV)/.web
# Tests wait for half of their time, so there are more workers than cores. A file is one worker's, the long ones first
# (tests/conftest.py).
CORES := $(shell nproc 2>/dev/null || echo 2)
TESTED := $(BIN)/pytest --dist loadfile --no-loadscope-reorder
QUICK := $(TESTED) -n $(shell echo $$(($(CORES) < 4 ? 2 * $(CORES) : 8))) -m "not kernel" tests
KERNEL := $(TESTED) -n $(shell echo $$(($(CORES) < 4 ? $(CORES) + 1 : 4))) -m kernel tests

.PHONY: help web demo test test-fast test-kernel check format bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -ts $$'\t'

$(STAMP): pyproject.toml uv.lock setup.py scripts/setup $(wildcard src/ringfence/*/*.c src/ringfence/*/*/*.c)
	@scripts/setup
	@touch $@

$(WEB): $(STAMP) docs/reference/openapi.json web/package-lock.json web/index.html web/vite.config.ts $(shell find web/src -type f -not -name schema.ts)
	@scripts/setup --web
	@touch $@

web: $(WEB) ## build the web UI into src/ringfence/web

demo: $(WEB) ## a controller and a dozen agents: discover, enforce, attack, contain (root on Linux; else recorded)
	@scripts/setup --system
	@$(BIN)/ringfence lab demo

test: $(WEB) ## everything CI runs: house rules, types, unit, differential, kernel
	@scripts/setup --system
	@$(MAKE) --no-print-directory check
	@[ ! -d web/node_modules ] || (cd web && npm run -s test)
	@$(QUICK)
	@$(KERNEL)

test-fast: $(WEB) ## tests without the kernel ones
	@$(QUICK)

test-kernel: $(STAMP) ## tests with real packets (root)
	@scripts/setup --system
	@$(KERNEL)

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
	rm -rf $(VENV) build src/*.egg-info src/ringfence/web web/node_modules
	find src -name '*.so' -delete
