# make help lists what can be made.
#
#   PYTHON       the interpreter that .venv is made with, 3.11 or newer
#   TORCH_INDEX  where to take torch and torchvision from; on Linux without a GPU, the CPU index named on
#                PyTorch's install page saves several gigabytes of CUDA
#   ARGS         arguments for the example, e.g. make air ARGS="--steps 100"
PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

BIN := .venv/bin
# setuptools warns of editable installs in general, on a dozen lines.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check --quiet install -c .ci/constraints.txt
SOURCES := $(wildcard pyro_scenes examples benchmarks tests docs/*.py .ci/*.py setup.py)
BLACK := $(BIN)/black --quiet --line-length 100
# Of tutorials, by what a page of 700 pixels has room for.
TUTORIALS := docs/tutorials
NARROW := $(BIN)/black --quiet --line-length 79

.DEFAULT_GOAL := help
.PHONY: help install air cst_vae econ complete inpaint live test lint format style docs pictures clean
.SILENT:

help:  ## list the targets
	sed -n 's/^\([a-z_]*\):.*## /  make \1\t/p' Makefile | expand -t 17

install: .venv/installed  ## fill .venv with the library and what it needs

air: install  ## train Attend, Infer, Repeat on multi-digit scenes; goes on where it stopped
	$(BIN)/python examples/air_multi_mnist.py --resume $(ARGS)

cst_vae: install  ## train CST-VAE on overlapping digits; goes on where it stopped
	$(BIN)/python examples/cst_vae_superimposed.py --resume $(ARGS)

econ: install  ## train ECON, competing experts, on coloured shapes; goes on where it stopped
	$(BIN)/python examples/econ_shapes.py --resume $(ARGS)

inpaint: install  ## see what trained models paint where an image is not seen
	$(BIN)/python examples/inpaint.py $(ARGS)

complete: install  ## train CVAE to complete digits, given a part of them; goes on where it stopped
	$(BIN)/python examples/complete_digits.py --resume $(ARGS)

live: .venv/extra-live  ## open a page on which models explain what you draw
	$(BIN)/python examples/live.py $(ARGS)

# Two halves at a time, for two cores: the output of the one is shown when the other is done.
APART := tests/examples
test: .venv/extra-test  ## run the tests
	log=$$(mktemp); \
	$(BIN)/python -m pytest $(APART) >$$log 2>&1 & apart=$$!; \
	$(BIN)/python -m pytest --ignore=$(APART); others=$$?; \
	wait $$apart; apart=$$?; cat $$log; rm -f $$log; test $$others = 0 && test $$apart = 0

lint: .venv/extra-lint  ## check format, style, types, floors and lengths
	$(BLACK) --check --diff $(SOURCES)
	$(NARROW) --check --diff $(TUTORIALS)
	$(BIN)/isort --check-only --diff --quiet $(SOURCES)
	$(BIN)/flake8 $(SOURCES) $(TUTORIALS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/style.py

format: .venv/extra-lint  ## rewrite the sources in black's and isort's format
	$(BIN)/isort --quiet $(SOURCES)
	$(BLACK) $(SOURCES)
	$(NARROW) $(TUTORIALS)

style:  ## check the lengths of files and functions, and the number of parameters
	$(PYTHON) .ci/style.py

# Tutorials are run anew: their pages, where they are old, refer to labels that are gone.
docs: .venv/extra-docs  ## build the pages into docs/_build/html, tutorials run; check their links
	rm -rf docs/_build docs/auto_tutorials
	OMP_WAIT_POLICY=PASSIVE $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python .ci/pages.py docs/_build/html
	echo "docs/_build/html/index.html"

pictures: .venv/extra-docs  ## make docs/pictures again, by the examples and the weights that ship; needs dot
	$(BIN)/python docs/pictures.py

clean:  ## remove what was built; .venv stays
	rm -rf build dist docs/_build docs/auto_tutorials .pytest_cache .mypy_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -print | xargs rm -rf

# Stamps: nothing is installed again until what it is made from changes.
.venv/installed: setup.cfg setup.py .ci/constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info; v >= (3, 11) or sys.exit('pyro_scenes needs Python \
	3.11 or newer, and $(PYTHON) is %d.%d: make install PYTHON=python3.11' % v[:2])"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	echo "Filling .venv: the first time, some minutes without a word from pip, and more than a gigabyte"
	test -n "$(TORCH_INDEX)" || test "$$(uname)" != Linux || command -v nvidia-smi >/dev/null || \
	  echo "No NVIDIA GPU in sight: if gigabytes of CUDA arrive, see TORCH_INDEX in the README"
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch torchvision)
	$(PIP) --use-pep517 -e .
	touch $@

.venv/extra-%: .venv/installed
	echo "Adding to .venv what [$*] needs: up to some minutes"
	$(PIP) --use-pep517 -e '.[$*]'
	touch $@
