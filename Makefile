# Begin with `make help`. Everything lives in .venv; nothing outside this folder is touched.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-nightly test-processors campaign lint docs bench build clean
.DELETE_ON_ERROR:

# The first Python that is new enough; `make demo PYTHON=/path/to/python` takes another.
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
    $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin
STUDY := demo-study
# Workers share the cores; one thread each is faster than fighting over them.
PYTEST := $(BIN)/pytest -n auto --maxprocesses 4
TEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTEST)
# What makes this processor compute as others would: other kernels of torch, oneDNN, OpenBLAS and numba, other threads.
SSE := ATEN_CPU_CAPABILITY=default,ONEDNN_MAX_CPU_ISA=SSE41,OPENBLAS_CORETYPE=Nehalem,NUMBA_CPU_NAME=generic
AVX := ATEN_CPU_CAPABILITY=avx2,ONEDNN_MAX_CPU_ISA=AVX2,OPENBLAS_CORETYPE=Haswell
PROCESSORS := $(SSE),OMP_NUM_THREADS=1 $(AVX),OMP_NUM_THREADS=4,NUMBA_NUM_THREADS=4 \
    OPENBLAS_CORETYPE=Zen,NUMBA_CPU_NAME=generic,OMP_NUM_THREADS=2 OMP_NUM_THREADS=4,NUMBA_NUM_THREADS=2

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/core.stamp ## install, simulate a study with a known answer, run it, say where its page is
	@if [ -e $(STUDY)/study.toml ]; then $(BIN)/brainmap run $(STUDY)/study.toml; else $(BIN)/brainmap demo $(STUDY); fi
	@echo; echo "Open $(STUDY)/derivatives/brainmap/report.html in a browser."

test: $(VENV)/test.stamp ## install with the test tools, run the tests (minutes)
	$(TEST)

test-slow: $(VENV)/test.stamp ## the tests that take longer: whole studies, calibration, the wheel
	$(TEST) -m "slow and not nightly"

test-nightly: $(VENV)/test.stamp ## the examples of the gallery that take more than a minute
	$(TEST) -m nightly || [ $$? -eq 5 ]  # 5: there are none

test-processors: $(VENV)/test.stamp ## the tests as other processors would compute; ONLY="-m bits": those of equality
	@for set in $(PROCESSORS); do echo "== $$set"; env $$(echo $$set | tr , ' ') $(PYTEST) $(ONLY) || exit 1; done

campaign: $(VENV)/test.stamp ## kills, damaged files and scarce memory, at length (an hour), and their table
	@rm -f campaign.txt
	BRAINMAP_CAMPAIGN_KILLS=100 BRAINMAP_CAMPAIGN_MUTATIONS=2000 BRAINMAP_CAMPAIGN_TABLE=$(CURDIR)/campaign.txt $(TEST) -m campaign; \
	    status=$$?; sort campaign.txt; exit $$status

lint: $(VENV)/dev.stamp ## ruff, its formatter, mypy --strict, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/docs.stamp ## the site, with every example of the gallery run, in docs/_build/html
	OMP_NUM_THREADS=2 $(BIN)/python docs/build.py

bench: $(VENV)/test.stamp ## the races against the peers (use an idle machine)
	@for race in $(filter-out benchmarks/clock.py,$(wildcard benchmarks/*.py)); do echo "== $$race"; $(BIN)/python $$race || exit 1; done

build: $(VENV)/dev.stamp ## wheel and sdist, in dist/
	rm -rf build dist *.egg-info  # what lies there from an older tree would be packed too
	$(BIN)/python -m build

clean: ## remove what was built or cached; .venv and studies stay
	rm -rf build dist *.egg-info docs/_build docs/examples docs/reference docs/commands campaign.txt .coverage htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp is younger than what it was installed from, so that a second call does nothing.
$(VENV)/core.stamp: EXTRA :=
$(VENV)/test.stamp: EXTRA := [test]
$(VENV)/dev.stamp: EXTRA := [dev]
$(VENV)/docs.stamp: EXTRA := [docs,transformers]
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".$(EXTRA)"
	@touch $@

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "brainmap needs Python 3.11 or newer; install it, or: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
