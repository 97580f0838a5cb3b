"""Runs small enough for a test: shortened examples, a silent observer, and marks that skip tests without an emulator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment

SINE = find("examples/sine.toml")
OMNIGLOT = find("examples/omniglot.toml")

DATA = Path(os.environ.get("TINYMETAFED_TEST_DATA", root().parent / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "omniglot_background_small1.zip").is_file(),
    reason=f"no omniglot_background_small1.zip in {DATA} (TINYMETAFED_TEST_DATA names another folder)",
)


def needs_board(board: str) -> pytest.MarkDecorator:
    """Skips a test where firmware for ``board`` cannot be built and run."""
    lacking = ", ".join(tool.name for tool in boards.missing_tools(board))
    return pytest.mark.skipif(bool(lacking), reason=f"{lacking} not installed: no emulated {board} here")


needs_qemu = needs_board("mps2")


class Quiet:
    """An observer that ignores everything."""

    def stage(self, text: str, total: int = 0) -> None:
        pass

    def advance(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def event(self, text: str) -> None:
        pass


_HALTING = """
import time
from pathlib import Path

from tinymetafed.learn.strategies import TinyMetaFed


class Halting(TinyMetaFed):
    def update(self, weights, deltas, round_):
        if round_ == {round} and not Path("{go}").exists():
            time.sleep(1.0)  # longer than finished rounds wait for others to be written with
        while round_ > {round} and not Path("{go}").exists():
            time.sleep(0.01)
        return super().update(weights, deltas, round_)
"""


def halting(folder: Path, round: int) -> tuple[str, Path]:
    """A strategy that waits after ``round`` with all rounds stored; returns its kind and the file that ends the wait."""
    file, go = folder / "halting.py", folder / "go"
    file.write_text(_HALTING.format(round=round, go=go))
    return f"{file}:Halting", go


def sine(*overrides: str) -> Experiment:
    """The sine example."""
    return spec.load(SINE, overrides)


def omniglot(*overrides: str) -> Experiment:
    """The Omniglot example."""
    return spec.load(OMNIGLOT, overrides)


def manifest(experiment: Experiment, board: str = "native") -> ModelManifest:
    """The experiment's manifest."""
    return design_of(experiment, "test", board).manifest
