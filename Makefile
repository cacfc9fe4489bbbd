# On a machine with nothing but python3 (3.11 or newer) and make: `make demo`, `make check`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
MODELS ?= $(wildcard examples/models/*.onnx)

# A stamp per set of extras: pip runs again when pyproject.toml changes, and only then.
DEMO := $(VENV)/.installed
BASE := $(VENV)/.installed-dev
SITE := $(VENV)/.installed-docs
BENCH := $(VENV)/.installed-bench
GPU := $(VENV)/.installed-gpu

HAS_GPU = $(PYTHON) -c "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))" 2>/dev/null

.PHONY: help demo check types test site wheels bench gpu conformance conformance-dynamic fuzz docs format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install tessel into .venv (no development tools), compile a model, run and time it"
	@echo "make check   lint, format check, types and the unit tests: about a minute and a half on two cores"
	@echo "make types   check the types (mypy)"
	@echo "make test    lint, format check, types and all tests: about half an hour"
	@echo "make sweeps  every size of the sweeps that the tests run a sample of: about an hour"
	@echo "make bench   time the backends side by side (MODELS=\"a.onnx b.onnx\" chooses the models)"
	@echo "make gpu     the tests and the benchmark that need an NVIDIA GPU"
	@echo "make conformance   run the cases of ONNX, rewrite the list of those that fail and its page"
	@echo "make fuzz    run 20,000 cases between guard pages: code that leaves its arrays is found"
	@echo "make conformance-dynamic   the same with every dim of the inputs left open; rewrite its list"
	@echo "make docs    rewrite the pages and stubs that are made from code: docs/reference, *.pyi, …"
	@echo "make site    build the pages as a site: build/site/index.html"
	@echo "make wheels  build the wheels of tessel and tessel-run into dist"
	@echo "make format  rewrite the sources as ruff formats them"
	@echo "make clean   remove .venv and everything that was built"

demo: $(DEMO)
	@$(BIN)/tessel demo

check: $(BASE)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(TYPES) || status=1; \
	$(BIN)/python -m pytest -n 2 -m "not shared and not gpu and not slow and not rest" \
		$$($(BIN)/python -m tests.classes unit) </dev/null || status=1; \
	exit $$status

# mypy finds a package by its name, and a clone may have any.
TYPES = mkdir -p build/types && ln -sfn ../.. build/types/tessel && $(BIN)/python -m mypy

types: $(BASE)
	@$(TYPES)

# All run whatever the others say; pytest is last so that its summary is the last line.
test: $(BASE)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(TYPES) || status=1; \
	$(BIN)/python -m pytest -n 2 </dev/null || status=1; \
	exit $$status

.PHONY: sweeps
sweeps: $(BASE)
	@$(BIN)/python -m pytest -n 2 --sweeps -m sweep </dev/null

bench: $(BENCH)
	@$(BIN)/tessel bench $(MODELS)

gpu:
	@if $(HAS_GPU); then $(MAKE) --no-print-directory gpu-run; \
	else echo "no GPU: libcuda finds no device, so nothing of 'make gpu' was run"; fi

.PHONY: gpu-run
gpu-run: $(GPU)
	@$(BIN)/python -m pytest -m gpu </dev/null
	@$(BIN)/tessel bench $(MODELS) --backends tessel-cuda,tessel,onnxruntime

# Keras' own tests on tessel: make keras ARGS="losses metrics", ARGS="ops/numpy_test.py --traced"
.PHONY: keras
keras: $(BASE)
	@$(BIN)/python -m tests.keras $(ARGS)

conformance: $(BASE)
	@$(BIN)/python -m tests.conformance --write

# SEED=1 has other cases; COUNT=50000 more of them; a run that was stopped goes on, FRESH=1 begins anew.
SEED ?= 0
COUNT ?= 20000
JOBS ?= 2
fuzz: $(BASE)
	@$(BIN)/python -m tests.guards --seed $(SEED) --count $(COUNT) --jobs $(JOBS) $(if $(FRESH),--fresh)

conformance-dynamic: $(BASE)
	@$(BIN)/python -m tests.conformance --engine tessel-dynamic --write

docs: $(BASE)
	@$(BIN)/python -m tessel.tools.pages.ops docs/reference/ops.md
	@$(BIN)/python -m tessel.tools.pages.reference docs/reference
	@$(BIN)/python -m tessel.tools.pages.life docs/life-of-a-model.md
	@$(BIN)/python -m tessel.tools.pages.stubs .
	@$(BIN)/python -m tests.conformance --page

site: $(SITE)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
	@echo "built build/site/index.html"

wheels: $(BASE)
	@$(BIN)/python -m tessel.tools.wheels dist

format: $(BASE)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('tessel needs Python 3.11 or newer; $(PYTHON) is ' + sys.version.split()[0] + '. Choose another: make PYTHON=python3.12')"
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }

# What pip is told to install, as pyproject.toml lists it.
NEEDS = $(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print(*p['dependencies'], sep=', ')"

$(DEMO): pyproject.toml | $(BIN)/python
	@echo "installing tessel into $(VENV), with $$($(NEEDS)) (about 300 MB)"
	@$(PIP) install --editable .
	@touch $@

$(BASE): pyproject.toml | $(BIN)/python
	@echo "installing tessel and its development tools (the extra dev) into $(VENV)"
	@$(PIP) install --editable ".[dev]"
	@touch $@ $(DEMO)

$(SITE): $(BASE)
	@echo "installing the tools that build the site (the extra docs)"
	@$(PIP) install --editable ".[docs]"
	@touch $@

$(BENCH): $(BASE)
	@echo "installing the engines to compare with"
	@$(PIP) install --editable ".[dev,bench]"
	@touch $@

$(GPU): $(BASE)
	@echo "installing the GPU tools"
	@$(PIP) install --editable ".[dev,gpu]"
	@touch $@
