# The commands that developers use most; `make` lists them.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test lint bench paper

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Python environment and compilers; installs only what is missing
	@$(PYTHON) scripts/setup.py

demo: setup  ## a small federation of emulated boards learns sine waves
	$(BIN)/tinymetafed demo

test: setup  ## all tests
	$(BIN)/pytest

lint: setup  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup  ## measures and writes docs/costs.md; takes many minutes
	$(BIN)/tinymetafed bench all -o docs

DATA ?=

paper: setup  ## measures the papers' tables again and writes docs/paper.md; DATA=FOLDER has the data sets
	$(BIN)/tinymetafed paper -o docs $(if $(DATA),--data $(DATA))
