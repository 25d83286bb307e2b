# Needs make and Python >= 3.11 with venv, nothing else. `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow slurm gpu check lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-7s %s\n' "$$name" "$$text"; done

# uv is in .venv too: `uv pip sync` spares it. A binary that does not run is what an interrupted install leaves.
define have_uv
$(BIN)/uv --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)." \
	      "Name another: make setup PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	  $(PYTHON) -m venv --clear .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
endef

setup: .venv/.stamp ## make .venv with the exact versions of requirements.lock (again only when something changed)

# The stamp is taken away first and put back last. Without it .venv is of unknown content (a killed install can
# leave half a package that counts as installed), so it is made anew.
.venv/.stamp: requirements.lock pyproject.toml setup.py
	@test -e $@ || rm -rf .venv
	@$(have_uv)
	@rm -f $@
	$(BIN)/uv pip sync --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## a small real sweep, from nothing to figures
	$(BIN)/python -m lop_sweeps.demo

# Three workers on two cores: tests that start processes wait for them.
test: setup ## the tests that a person runs: eight minutes on two cores
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

slow: setup ## the rest, fifteen to twenty minutes: every row of the contract table, long comparisons
	$(BIN)/python -m pytest -n 3 --dist worksteal -m slow

slurm: setup ## the tests on a SLURM of their own (root; Debian: slurm-wlm, munge)
	$(BIN)/python -m pytest -m slurm tests/cluster

gpu: ## on a machine with an NVIDIA GPU: its tests and what packs reach there (no internet: see perf/wheels.sh)
	perf/gpu.sh $(GPU_ARGS)

check: setup ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## remake requirements.lock from pyproject.toml (newest versions: make lock LOCK_ARGS=--upgrade)
	@$(have_uv)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --custom-compile-command "make lock" $(LOCK_ARGS) --output-file requirements.lock pyproject.toml

clean: ## remove .venv, caches and builds; results and data stay
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
