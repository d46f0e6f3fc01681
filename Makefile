# Two commands matter: `make demo` and `make test`. Both set everything up first; a second run starts in seconds.
PYTHON ?= python3
VENV ?= .venv
# Extra arguments for pip, for instance an index of CPU builds of torch on Linux without a GPU.
PIP_ARGS ?=
BIN := $(VENV)/bin

# Ray starts many Python processes: without bytecode each of them compiles its imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all lint format loop bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml requirements.lock infra/setup.sh
	@PYTHON='$(PYTHON)' PIP_ARGS='$(PIP_ARGS)' sh infra/setup.sh '$(VENV)'

demo: $(VENV)/.ready ## set up, start the whole service, do one fill and one judgment; stays up in a terminal
	@exec $(BIN)/harmonixr up --check

test: $(VENV)/.ready ## set up and pass the tests that need nothing but Python
	@$(BIN)/python -m pytest -q -n 2

test-all: $(VENV)/.ready ## the marked suites too: Ray, Redis, S3, browser, end to end (what CI runs)
	@bash .ci/run

lint: $(VENV)/.ready ## style, types and the arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

loop: $(VENV)/.ready ## judgments of a simulated listener, reward model, best of n, DPO, gate: the whole circle once
	@$(BIN)/harmonixr loop

bench: $(VENV)/.ready ## print the benchmark tables, beside their peers
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c requirements.lock -e '.[bench]'
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(VENV)/.ready ## write the versions installed now to requirements.lock
	@$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean: ## remove the virtual environment and everything the service kept
	rm -rf $(VENV) var runs
