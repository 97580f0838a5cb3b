# The commands that developers use most; `make` lists them.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-all test-tensorflow lint docs bench paper

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Python environment and compilers; installs only what is missing
	@$(PYTHON) scripts/setup.py

demo: setup  ## a small federation of emulated boards learns sine waves
	$(BIN)/tinymetafed demo

test: setup  ## the tests for everyday work; those that need TensorFlow are skipped unless it is installed
	$(BIN)/pytest -m 'not exhaustive'

test-all: setup  ## all tests, also the exhaustive ones
	$(BIN)/pytest

IMPORTING := tests/projects/importing

INT8 := tests/kernels/test_int8_tensorflow.py

test-tensorflow: setup  ## installs TensorFlow (1.6 GB) and compares imported models with it; a minute of its many tests
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --editable '.[models]'
	$(BIN)/pytest -n 2 --dist load $(IMPORTING)/test_same_as_tensorflow.py \
	  "$(IMPORTING)/test_random_models.py::test_random_models_have_equal_outputs_or_are_refused[0]" \
	  $(INT8)::test_every_layer_of_a_published_network_is_equal \
	  $(INT8)::test_every_layer_of_a_published_network_is_equal_in_tflite_micro \
	  $(INT8)::test_the_recorded_outputs_are_those_of_tensorflow_lite

lint: setup  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup  ## the documentation as a website in site/; a broken link is an error
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: setup  ## measures and writes docs/costs.md; takes many minutes; DATA=FOLDER: that of Omniglot's archives
	$(BIN)/tinymetafed bench all -o docs $(if $(DATA),--data $(DATA))

DATA ?=

paper: setup  ## measures the papers' tables again and writes docs/paper.md; DATA=FOLDER has the data sets
	$(BIN)/tinymetafed paper -o docs $(if $(DATA),--data $(DATA))
