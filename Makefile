# make install   the product in .venv (command: .venv/bin/trunkline)
# make run       install and start on the embedded default, data in ./data
# make test      install with the test tools and run lint, types and tests
# make bench     the benchmarks against their yardsticks
# make bench-delivery   those of delivery (BENCH_ARGS=--quick: a short look)
# make crash     the long crash run

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
PORT ?= 8080
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: install install-dev run test test-acceptance test-clients lint types bench bench-delivery crash lock clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

run: install
	$(BIN)/trunkline serve --data-dir $(DATA) --port $(PORT)

lint: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: install-dev
	$(BIN)/mypy

# Unit tests share nothing but the machine, so they run side by side. The others start servers and mostly wait for them:
# two lines of them at once, no more, and no group of them in both, for each prepares its clients once.
test: lint types
	PYTHONHASHSEED=0 $(BIN)/python -m pytest $(PYTEST_ARGS) -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 tests/unit
	$(MAKE) -j2 --output-sync=target --no-print-directory test-acceptance test-clients

test-acceptance: install-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/acceptance tests/contract

test-clients: install-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/crash tests/wire

bench: install-dev
	$(BIN)/python -m benchmarks.run

bench-delivery: install-dev
	$(BIN)/python -m benchmarks.delivery $(BENCH_ARGS)

crash: install-dev
	TRUNKLINE_CRASH_ROUNDS=200 $(BIN)/python -m pytest tests/crash --timeout=7200

# Pins every package with its hashes. Names no registry.
lock: install-dev
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	  --generate-hashes --allow-unsafe --strip-extras -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	  --generate-hashes --allow-unsafe --strip-extras --extra dev -o requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
