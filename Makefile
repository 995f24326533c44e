# Dovecote: `make` alone lists what there is. Every target sets up what it needs by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo serve try test test-busy test-long chaos screenshots docs check bench lock typescript clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements-dev.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12")'
	@echo "Installing Dovecote and what its tests need into $(VENV) (about 350 MB, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable clients/python --editable .
	@touch $@ $(VENV)/.runtime

# The runtime lock alone: enough to run Dovecote, and a tenth of the download.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12")'
	@echo "Installing Dovecote and what it needs into $(VENV) (about 40 MB, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-build.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable clients/python --editable .
	@touch $@

install: $(VENV)/.installed ## create .venv from the lock (the other targets do it too)

demo: $(VENV)/.runtime ## the main job, live, on SQLite and the built-in sandbox
	$(BIN)/dovecote demo $(ARGS)

serve: $(VENV)/.runtime ## run Dovecote here (settings: dovecote.toml and the environment)
	$(BIN)/dovecote serve $(ARGS)

try: $(VENV)/.runtime ## Dovecote with a sandbox instead of providers: its dashboard, tasks of your own, nothing to pay
	$(BIN)/dovecote try $(ARGS)

test: $(VENV)/.installed ## the suite, on SQLite, and on PostgreSQL where the database matters
	$(BIN)/python -m pytest -q $(ARGS)

test-busy: $(VENV)/.installed ## the whole suite beside four busy loops: no test depends on the machine's speed
	$(BIN)/python -m tests.busy $(BIN)/python -m pytest -q $(ARGS)

test-long: $(VENV)/.installed ## what takes long: killed processes and databases, every fault, generated requests, the rest on PostgreSQL
	$(BIN)/python -m pytest -q -m long --ignore=tests/browser $(ARGS)
	$(BIN)/python -m pytest -q -m long -n 0 tests/browser  # by itself: Playwright's loop keeps other tests from theirs

chaos: $(VENV)/.installed ## faults on purpose under load, and a verifier (make chaos ARGS="--rounds 20 --minutes 5 --database postgresql")
	$(BIN)/python -m tests.chaos $(ARGS)

screenshots: $(VENV)/.installed ## pictures of the dashboard's pages into screenshots/ (needs Chromium)
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

$(VENV)/.docs: $(VENV)/.installed requirements-docs.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

docs: $(VENV)/.docs ## the documentation as a site, into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

check: $(VENV)/.installed ## lint, types, import rules, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed ## measure against the obvious version, side by side, in one run
	$(BIN)/python -m bench $(ARGS)

typescript: $(VENV)/.installed ## the TypeScript client: its types, build and tests (needs Node and npm)
	cd clients/typescript && npm ci --no-progress --ignore-scripts
	$(BIN)/dovecote openapi | npm --prefix clients/typescript run --silent schema
	$(BIN)/python -m pytest -q -n 0 -m "long or not long" tests/client/test_typescript.py

lock: ## write the locks anew (needs uv)
	uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package dovecote-client pyproject.toml -o requirements.lock
	uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package dovecote-client pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group build -c requirements-dev.lock -o requirements-build.lock
	uv pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group docs -c requirements-dev.lock -o requirements-docs.lock

clean: ## remove what the targets made
	rm -rf $(VENV) site clients/typescript/node_modules clients/typescript/dist .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
