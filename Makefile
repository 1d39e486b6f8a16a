# What people and CI run.  Needs Python 3.11 or newer and make, nothing else; `make help` lists the targets.
# All paths are relative to this file's folder, so that a clone may live in a path with spaces.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin

# The first of these that is new enough; `make PYTHON=...` overrides it.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

# Tests run in this many processes; each test, in no group, goes to the next that is free, so none may rest on another.
# A process that dies ends the run: pytest-xdist 3.8 can wait for ever after replacing it (its issues 1323 and 1378).
WORKERS ?= auto

export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: .venv/.codec ## start a local cluster, kill a leader half-way, prove that nothing was lost
	@$(BIN)/glasslog demo

.PHONY: test
test: .venv/.dev .venv/.codec ## run every test that needs no containers
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadgroup --max-worker-restart 0

.PHONY: check
check: .venv/.dev ## format, lint, types, import contracts, stubs up to date
	@echo "== format" && $(BIN)/ruff format --check --quiet .
	@echo "== lint" && $(BIN)/ruff check --quiet .
	@echo "== types" && $(BIN)/mypy && $(BIN)/mypy hatch_build.py
	@echo "== import contracts" && $(BIN)/lint-imports --no-logo
	@echo "== stubs" && $(BIN)/python proto/generate.py --check && $(BIN)/python proto/document.py --check

.PHONY: format
format: .venv/.dev ## format the code and fix what the linter can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: stubs
stubs: .venv/.dev ## generate stubs and docs/grpc-reference.md from the .proto files
	@$(BIN)/python proto/generate.py
	@$(BIN)/python proto/document.py

SEEDS ?= 20
FIRST ?= 1
DURATION ?= 20

.PHONY: sim
sim: .venv/.dev .venv/.codec ## run whole clusters under random faults in memory; SEEDS=100 for more
	@$(BIN)/glasslog simulate --seed $(FIRST) --count $(SEEDS) --duration $(DURATION)

PROFILES ?=

RUNS ?= 1

.PHONY: matrix
matrix: .venv/.dev .venv/.codec ## Kafka's failure matrix on real processes, RUNS times; goes on if broken off; see build/matrix
	@$(BIN)/python -m tests.e2e.failure_matrix --runs $(RUNS)

.PHONY: up
up: ## start the docker-compose cluster, and say when it is healthy; PROFILES="chaos monitoring" for more
	@deploy/up.sh $(PROFILES)

# As pytest's -k takes it: ONLY="kill_the_leader or network_partition"
ONLY ?=

.PHONY: test-containers
test-containers: .venv/.dev .venv/.codec ## break containers in every way; needs a Docker engine, says so without one
	@$(BIN)/python -m pytest tests/containers -rs -o faulthandler_timeout=900 $(if $(ONLY),-k "$(ONLY)")

VOLUMES ?=

.PHONY: down
down: ## stop the docker-compose cluster; VOLUMES=1 forgets its data
	@if docker compose version >/dev/null 2>&1; then compose="docker compose"; else compose=docker-compose; fi; \
	$$compose --profile chaos --profile monitoring down $(if $(VOLUMES),--volumes)

.PHONY: bench
bench: .venv/.codec ## run the benchmarks; a table at the end
	@$(BIN)/python -m benchmarks

# --- the virtual environment -------------------------------------------------------------------------------
# .home holds the folder it was made in: its scripts name that folder, so a moved or copied clone makes it anew,
# as does one whose Python is gone.  The other stamps are younger than pyproject.toml once all is installed: then
# nothing here calls pip, and make works offline.

SOUND := $(shell [ "$$(cat .venv/.home 2>/dev/null)" = "$$(pwd -P)" ] && $(BIN)/python -c '' 2>/dev/null && echo yes)
ifneq ($(SOUND),yes)
.PHONY: .venv/.home
endif

.venv/.home:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "glasslog needs Python 3.11 or newer; found: $(or $(PYTHON),none). Name one: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@echo "Making .venv with $$("$(PYTHON)" --version)"
	@clear=; if [ -e .venv/.home ] || ! $(BIN)/python -c '' 2>/dev/null; then clear=--clear; fi; \
	  "$(PYTHON)" -m venv $$clear .venv
	@pwd -P > $@

.venv/.runtime: pyproject.toml .venv/.home
	@echo "Installing glasslog into .venv"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Says which codec of records there is.  The install above compiled it where it could; this does so again after a
# change of its source, if what that takes is here: .dev brings Cython.
.venv/.codec: common/glasslog/log/compiled_codec.py common/glasslog/log/compiled_walk.py hatch_build.py .venv/.runtime
	@$(BIN)/python hatch_build.py
	@touch $@

.venv/.dev: pyproject.toml .venv/.runtime
	@echo "Installing the development tools into .venv"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@
