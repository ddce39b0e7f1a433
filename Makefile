# `make demo` and `make test` do all the set-up on a fresh machine: they make .venv, install the project in it (editable)
# and run. PYTHON chooses the interpreter, VENV the folder.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ONLY ?=

.PHONY: demo test test-all check bench clean help

help:
	@echo "make demo      train, compare, export and import a digits classifier"
	@echo "make test      the test suite"
	@echo "make test-all  the test suite with slow tests"
	@echo "make check     linter, formatter, type checker"
	@echo "make bench     benchmarks against NumPy, PyTorch and JAX (ONLY=mlp for one workload)"

demo: $(VENV)/.examples
	$(BIN)/python examples/digits/train.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n auto

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n auto --slow

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The rooms at the top level are packages of graphc: the type checker sees them through a tree of links.
	@rm -rf $(VENV)/typed && mkdir -p $(VENV)/typed/graphc
	@ln -s $(CURDIR)/graphc/* $(CURDIR)/passes $(CURDIR)/codegen $(VENV)/typed/graphc/
	cd $(VENV)/typed && ../bin/mypy --config-file $(CURDIR)/pyproject.toml -p graphc

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("graphc needs Python 3.10 or newer, not " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --upgrade pip

$(VENV)/.examples $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --quiet --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
