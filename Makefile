# make demo: train a translation model from scratch.   make test: run the tests.   make help: list all targets.

# The first Python found that is at least 3.11; choose another with `make PYTHON=… demo`.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
IN_VENV := .venv/bin/python -m

export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help setup demo test lowest check docs wheel clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile | expand -t 14

setup: .venv/core  ## create .venv and install the package

demo: .venv/core  ## train on the built-in corpus, evaluate, look inside: about 5 minutes on two CPU cores
	$(IN_VENV) transformer train --config configs/toyland.yaml --resume
	$(IN_VENV) transformer evaluate --run runs/toyland --show 5
	$(IN_VENV) transformer inspect --run runs/toyland --output runs/toyland/inspect.html \
	  "She closes the suitcase because it is clean."
	@printf '%s\n' \
	  '' 'The page runs/toyland/inspect.html shows what the model did with that sentence: open it in a browser.' \
	  '' 'Now try it yourself, with words of toyland:' \
	  '  echo "The old man gives the child a red apple." | .venv/bin/transformer translate --run runs/toyland' \
	  '  .venv/bin/transformer translate --run runs/toyland          (type a sentence; Ctrl-D ends)' \
	  '  .venv/bin/transformer inspect --run runs/toyland "The dog sleeps because it is old."   (writes inspect.html)' \
	  '  .venv/bin/python examples/minimal.py                        (the same in 60 lines of Python)' \
	  'Train on your own text: README.md, "Your own data".'

test: .venv/dev  ## run all tests except the slow ones: about 5 minutes on two free cores
	OMP_NUM_THREADS=1 $(IN_VENV) pytest -n 2 -m "not slow"

lowest: .venv-lowest/ready  ## the same with the lowest versions that pyproject.toml allows of everything but torch
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2 -m "not slow"

check: .venv/dev  ## check format, lint and types, and run the fast consistency tests
	$(IN_VENV) ruff format --check .
	$(IN_VENV) ruff check .
	$(IN_VENV) mypy
	$(IN_VENV) mypy --platform win32 --cache-dir .mypy_cache/win32
	$(IN_VENV) pytest -q tests/test_imports.py tests/test_config.py tests/test_configs.py tests/test_public_names.py

docs: .venv/docs  ## build the documents as a site: site/index.html
	.venv/bin/python docs/stage.py
	NO_MKDOCS_2_WARNING=1 $(IN_VENV) mkdocs build --quiet --strict

wheel: .venv/core  ## build the wheel into dist/, install it elsewhere and try it there
	.ci/wheel .venv/bin/python

clean:  ## remove .venv, caches and build files, but not runs/
	rm -rf .venv .venv-lowest build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer was found; name one: make PYTHON=/path/to/python3 ..." >&2; exit 2; }
	"$(PYTHON)" -m venv .venv

.venv/core: pyproject.toml constraints.txt setup.py | .venv/bin/python
	$(if $(TORCH_INDEX),$(IN_VENV) pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	$(IN_VENV) pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# uv only computes the versions, because pip cannot ask for the lowest; what the packages themselves need stays current.
.venv-lowest/ready: pyproject.toml constraints.txt | .venv/bin/python
	$(IN_VENV) venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	grep '^torch==' constraints.txt > .venv-lowest/torch.txt
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct --all-extras --python .venv-lowest/bin/python \
	  --constraint .venv-lowest/torch.txt --output-file .venv-lowest/constraints.txt pyproject.toml
	$(if $(TORCH_INDEX),.venv-lowest/bin/python -m pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable ".[benchmarks,dev]"
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/core
	$(IN_VENV) pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

.venv/docs: pyproject.toml constraints.txt | .venv/core
	$(IN_VENV) pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@
