# `make demo` and `make test` need only Python 3.11 or later: they set up .venv themselves. The demo takes 3 to 5
# minutes on two cores, the tests about 20.
#   make test PYTHON=python3.12         another interpreter
#   make test EXTRAS=dev,faiss-cpu      other extras of pyproject.toml, with the tools of `dev`
# `make docs` builds the documentation into build/docs, and fails at a warning; about a minute once installed.
# `make bench` times the library and its peers: about 15 minutes on two cores that do nothing else.
#   make bench ONLY="neighbours memory" some of benchmarks/test_*.py

PYTHON ?= python3
EXTRAS ?= dev
ONLY ?=
VENV := .venv
BIN := $(VENV)/bin
SUITES = $(if $(ONLY),$(ONLY:%=benchmarks/test_%.py),benchmarks)
TIMINGS := .benchmarks/timings.json
QUIETLY := --benchmark-quiet -o faulthandler_timeout=0 -W default::pytest_benchmark.logger.PytestBenchmarkWarning
# Tests of one file share what they prepare, and stay in one process. Each process computes with one thread: those of
# several would wait for each other.
AT_ONCE := --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-compile

.PHONY: demo test docs bench clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/python -m reference_models.demo

test: $(VENV)/installed-$(EXTRAS)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --cov $(AT_ONCE)

docs: $(VENV)/installed-$(EXTRAS),docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -b html docs build/docs
	@echo 'Open build/docs/index.html.'

# A wrong answer fails here too, after the table is printed.
bench: $(VENV)/installed-dev,faiss-cpu
	@mkdir -p $(dir $(TIMINGS))
	@rm -f $(TIMINGS)
	@$(BIN)/python -m pytest $(SUITES) -v $(QUIETLY) --benchmark-json=$(TIMINGS); status=$$?; \
		test ! -s $(TIMINGS) || $(BIN)/python -m benchmarks.summary $(TIMINGS) $(ONLY) || exit; exit $$status

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
