"""Writes the firmware of an experiment as a library for a sketch of the user's own, into a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tinymetafed_codegen import __version__
from tinymetafed_codegen.board import board_key
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.libraries import sketch_library
from tinymetafed_codegen.libraries.sketch_library import SketchLibrary
from tinymetafed_codegen.protocol import SampleSet, Variant

from ..learn.strategies import open_strategy
from .export_library import replace_folder, require_replaceable


def write(design: Design, steps: Mapping[Variant, tuple[float, float]], folder: Path, command: str) -> tuple[Path, ...]:
    """Writes the library; a folder from an earlier one is replaced whole, or left as it was.

    Args:
        design: The model on its board.
        steps: The estimates of a training step in ms, by variant.
        folder: The folder.
        command: The command that writes it.

    Returns:
        The files of the library.

    Raises:
        BoardKeyError: The file that is to have the board's key has none.
        LibraryError: No sketch runs on the board.
        ExportError: The folder has something other than an earlier library in it.
        StoreError: The folder cannot be written.
    """
    sketch_library.require_sketches(design.board, design.boards.usable())
    require_replaceable(folder)
    strategy = open_strategy(design.experiment, design.manifest)
    phases = strategy.adaptation(design.experiment.task.count(SampleSet.ADAPT))
    longest = max(steps.values(), default=None)
    key = board_key.compiled_in(design.experiment)
    files = sketch_library.render(SketchLibrary(design, phases, longest, command, __version__, key))
    replace_folder(folder, files, () if key is None else (sketch_library.KEY_HEADER,))
    return tuple(folder / name for name in files)
