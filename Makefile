# `make demo` and `make test` need Python 3.11 or later and nothing else: they set up .venv themselves.
#   make test PYTHON=python3.12         another interpreter
#   make test EXTRAS=dev,faiss-cpu      other extras of pyproject.toml beside the tools of `dev`

PYTHON ?= python3
EXTRAS ?= dev
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: demo test clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/python -m reference_models.demo

test: $(VENV)/installed-$(EXTRAS)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest --cov

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage build dist

$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo 'Installing the packages that pyproject.toml asks for into $(VENV). Nearly all of it is torch: with its'
	@echo 'CUDA libraries, on Linux, 3 GB to download and 6 GB on disk; elsewhere less than 1 GB.'
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo 'Installing the packages that pyproject.toml asks for, and its extras $*, into $(VENV). Nearly all of it is torch:'
	@echo 'with its CUDA libraries, on Linux, 3 GB to download and 6 GB on disk; elsewhere less than 1 GB.'
	$(INSTALL) -e '.[$*]'
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or later is needed: name one, as in "make test PYTHON=python3.12".' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make a virtual environment: install its venv package (Debian, Ubuntu: apt install python3-venv).' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
