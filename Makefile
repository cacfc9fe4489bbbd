# On a machine with nothing but python3 (3.11 or newer) and make: `make demo`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
MODELS ?= $(wildcard examples/models/*.onnx)

# A stamp per set of extras: pip runs again when pyproject.toml changes, and only then.
BASE := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
GPU := $(VENV)/.installed-gpu

HAS_GPU = $(PYTHON) -c "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))" 2>/dev/null

.PHONY: help demo test bench gpu conformance conformance-open fuzz docs format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up .venv, compile the shipped model and run it"
	@echo "make test    set up .venv, then lint, format check and tests"
	@echo "make bench   time the backends side by side (MODELS=\"a.onnx b.onnx\" chooses the models)"
	@echo "make gpu     the tests and the benchmark that need an NVIDIA GPU"
	@echo "make conformance   run the cases of ONNX, rewrite the list of those that fail and its page"
	@echo "make fuzz    run 20,000 cases between guard pages: code that leaves its arrays is found"
	@echo "make conformance-open   the same with every dim of the inputs left open; rewrite its list"
	@echo "make docs    rewrite the pages that are made from code: docs/ops.md, docs/conformance.md"
	@echo "make format  rewrite the sources as ruff formats them"
	@echo "make clean   remove .venv and everything that was built"

demo: $(BASE)
	@$(BIN)/tessel demo

# All three run whatever the others say; pytest is last so that its summary is the last line.
test: $(BASE)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/python -m pytest -n 2 </dev/null || status=1; \
	exit $$status

bench: $(BENCH)
	@$(BIN)/tessel bench $(MODELS)

gpu:
	@if $(HAS_GPU); then $(MAKE) --no-print-directory gpu-run; \
	else echo "no GPU: libcuda finds no device, so nothing of 'make gpu' was run"; fi

.PHONY: gpu-run
gpu-run: $(GPU)
	@$(BIN)/python -m pytest -m gpu </dev/null
	@$(BIN)/tessel bench $(MODELS) --backends tessel-cuda,tessel,onnxruntime

conformance: $(BASE)
	@$(BIN)/python -m tests.conformance --write

# SEED=1 has other cases; COUNT=50000 more of them; a run that was stopped goes on, FRESH=1 begins anew.
SEED ?= 0
COUNT ?= 20000
JOBS ?= 2
fuzz: $(BASE)
	@$(BIN)/python -m tests.guards --seed $(SEED) --count $(COUNT) --jobs $(JOBS) $(if $(FRESH),--fresh)

conformance-open: $(BASE)
	@$(BIN)/python -m tests.conformance --engine tessel-open --write

docs: $(BASE)
	@$(BIN)/python -m tessel.tools.ops_page docs/ops.md
	@$(BIN)/python -m tests.conformance --page

format: $(BASE)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('tessel needs Python 3.11 or newer; $(PYTHON) is ' + sys.version.split()[0] + '. Choose another: make PYTHON=python3.12')"
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 -m venv failed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }

$(BASE): pyproject.toml | $(BIN)/python
	@echo "installing tessel and its development tools into $(VENV)"
	@$(PIP) install --editable ".[dev]"
	@touch $@

$(BENCH): $(BASE)
	@echo "installing the engines to compare with"
	@$(PIP) install --editable ".[dev,bench]"
	@touch $@

$(GPU): $(BASE)
	@echo "installing the GPU tools"
	@$(PIP) install --editable ".[dev,gpu]"
	@touch $@
