# What developers do most; `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test lint bench paper

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Python environment and compilers; does only what is missing
	@$(PYTHON) scripts/setup.py

demo: setup  ## a small federation of emulated boards learns sine waves
	$(BIN)/tinymetafed demo

test: setup  ## all tests
	$(BIN)/pytest

lint: setup  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup  ## measures all that docs/costs.md tells, and writes it; takes many minutes
	$(BIN)/tinymetafed bench all -o docs

DATA ?=

paper: setup  ## docs/paper.md: the papers' tables measured again; DATA=FOLDER has the data sets
	$(BIN)/tinymetafed paper -o docs $(if $(DATA),--data $(DATA))
