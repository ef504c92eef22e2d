# Aliases for people. What depends on what stands in dvc.yaml, and only there.
.DEFAULT_GOAL := help
# Not to the letter /bin/sh: else GNU make 3.81, macOS's, runs simple lines itself and looks for programs on the PATH that
# it was started with, not on the one below.
SHELL := /bin//sh
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The environment is the lock's alone: nothing installed for the user leaks in.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH
# Nor do they send pip elsewhere.
unexport PIP_USER
unexport PIP_TARGET
unexport PIP_PREFIX
# Byte code is kept: without it every start of dvc compiles 900 modules anew, 1.4 s.
unexport PYTHONDONTWRITEBYTECODE
STAGES := collect_stage1 collect_stage2 convert train_stage1 train_stage2 fuse evaluate
PROMPT ?= slow worship ballad in Db
OUT ?= out/prompt.mid

# One stage after the other, also with -j: each waits for the one before, and DVC locks the project.
.NOTPARALLEL:

# The programs in an environment begin with its own place, so one that was moved is made anew.
MOVED := $(shell test -f $(VENV)/.place && test "`cat $(VENV)/.place`" != "$(CURDIR)" && rm -rf $(VENV) && echo moved)
ifeq ($(MOVED),moved)
$(info The project was moved: $(VENV) is made anew.)
endif

.PHONY: help setup check test repro metrics-diff generate clean bench faults faults-short web web-test wheel $(STAGES)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  and one target for each stage: $(STAGES)"

setup: $(VENV)/.stamp ## make .venv from requirements.lock

$(VENV)/.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Plagal needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ...")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@# uv, at the lock's own hash, installs the rest in seconds; where it cannot reach what pip reaches, pip does it.
	@awk '/^uv==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(VENV)/bin/uv pip install --python $(VENV) --require-hashes -r requirements.lock \
	  || $(VENV)/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" > $(VENV)/.place
	@touch $@

check: setup ## lint, types, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test: setup ## all tests
	pytest

repro: setup ## run every stage that is not up to date, then show metrics and samples
	@plagal mend
	@plagal rehearse --if-large
	dvc repro
	@plagal metrics show

$(STAGES): setup
	@plagal mend
	dvc repro $@

metrics-diff: setup ## the table against main, for a pull request
	@plagal metrics diff

generate: setup ## PROMPT="slow worship ballad in Db" OUT=out/prompt.mid
	plagal generate "$(PROMPT)" -o "$(OUT)"

bench: setup ## every benchmark (takes an hour or two); writes benchmarks/README.md
	python benchmarks/run.py

faults: setup ## cause every fault (takes hours); writes docs/reliability.md's table
	python tests/faults/run.py

faults-short: setup ## CI's short form: minutes, writes nothing
	python tests/faults/run.py --short

web: web/node_modules/.package-lock.json ## build the page that plagal serve shows; needs Node 20 or newer
	npm --prefix web run --silent build

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null \
	  || { echo "The page needs Node 20 or newer, with npm; Plagal itself runs without it."; exit 1; }
	npm --prefix web ci --no-audit --no-fund --loglevel=error

web-test: ## the page's tests: units, then the service in a real Chromium (CHROMIUM=path); says what it skips
	@tests/browser/run

wheel: setup ## dist/: wheel and source (with the page if `make web` built it), tested versions, SBOM of the environment
	rm -rf dist
	python -m build --no-isolation
	@# The lock without its hashes: with them pip would refuse the wheel, which has none there.
	sed -n 's/^\([A-Za-z0-9._-]*==[^\\]*[^ \\]\) *\\*$$/\1/p' requirements.lock > dist/constraints.txt
	cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible -o dist/sbom.cdx.json

clean: ## remove environment, caches and logs (models and data stay in DVC)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis logs out dist web/node_modules web/public/samples
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
