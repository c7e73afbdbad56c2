PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= workdirs/digits
PART = $(addprefix tests/,process model networks training \
    $(patsubst %,objective/test_%.py,losses bound parallel))
# The pins are those of Python 3.11. Others get the newest that there is, and no PyTorch, of which
# most have builds for GPUs alone: the tests that compare with it are left out there.
ifeq ($(shell $(PYTHON) -c 'import sys; print(*sys.version_info[:2])'),3 11)
PINS ?= -c constraints.txt
EXTRAS ?= test,parity
else
PINS ?=
EXTRAS ?= test
endif
# Where glibc's malloc asks for huge pages, steps on CPUs are faster.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: quickstart test test-part test-long test-notebooks lint campaign benchmark docs notebooks clean

# One command from a fresh clone to generated digits with their labels.
quickstart: $(VENV)/.base
	$(BIN)/python launch/train.py --config=configs/digits.py --workdir=$(WORKDIR)
	$(BIN)/python launch/evaluate.py --workdir=$(WORKDIR)
	$(BIN)/python launch/sample.py --workdir=$(WORKDIR) --out=$(WORKDIR)/joint

# A process more than cores, as some tests wait for other processes and for leases.
test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# A part of a few minutes, for other Pythons and packages, each in its own VENV.
test-part: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile $(PART)

# What takes too long for every change: before a release, and after a change of what it is about.
test-long: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m long

# The notebooks, at their small size.
test-notebooks: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m long tests/docs/test_notebooks.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

campaign: $(VENV)/.test
	$(BIN)/python -m pytest -m campaign -s

benchmark: $(VENV)/.test
	$(BIN)/python launch/benchmark.py

# The site, into docs/_build/html; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W -n --keep-going -q -b html docs docs/_build/html

# Runs docs/notebooks at their full size and stores what they show.
notebooks: $(VENV)/.test
	$(BIN)/python docs/notebooks/execute.py

clean:
	rm -rf $(VENV) docs/_build docs/api .mypy_cache .pytest_cache .ruff_cache build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python setup.py constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) -e ".[train]"
	touch $@

$(VENV)/.test: $(BIN)/python setup.py constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) -e ".[$(EXTRAS)]"
	touch $@

$(VENV)/.docs: $(BIN)/python setup.py constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) -e ".[docs]"
	touch $@
