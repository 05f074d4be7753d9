# Two commands for people: `make run` and `make test`. Everything else serves these.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

.PHONY: run test test-full lint format bench demo-stack lock clean setup-tests

run: .venv/installed ## Start the daemon on what there is to watch.
	$(BIN)/enoent serve

.venv/installed: requirements.lock pyproject.toml
	@tests/setup/python.sh "$(PYTHON)" requirements.lock
	@touch $@

.venv/installed-dev: requirements-dev.lock pyproject.toml
	@tests/setup/python.sh "$(PYTHON)" requirements-dev.lock
	@touch .venv/installed $@

setup-tests: .venv/installed-dev
	@tests/setup/debian.sh
	@tests/setup/engine.sh
	@tests/setup/glibcs.sh
	@tests/setup/roots.sh
	@tests/setup/plugins.sh $(BIN)/python
	@tests/setup/foreign.sh
	@tests/setup/addons.sh $(BIN)/python
	@tests/setup/dotnet.sh $(BIN)/python
	@tests/setup/entrypoints.sh $(BIN)/python
	@tests/setup/image.sh $(BIN)/python
	@tests/setup/dive.sh $(BIN)/python

test: setup-tests lint ## Everything CI runs; long suites in a seeded sample.
	$(PYTEST) -n 2 --dist loadgroup

test-full: setup-tests lint ## The same, with the long suites whole.
	ENOENT_TEST_FULL=1 $(PYTEST) -n 2 --dist loadgroup --timeout 3600

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo-stack: .venv/installed-dev ## Daemon, Prometheus and Alertmanager over the demonstration fleet; prints the addresses.
	@tests/setup/debian.sh
	@$(BIN)/python -m tests.make.stack

bench: setup-tests
	$(BIN)/python -m benchmarks

lock: .venv/installed-dev ## Resolve the lock files anew from pyproject.toml.
	$(COMPILE) --extra build pyproject.toml -o requirements.lock
	$(COMPILE) --extra build --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache dist
