"""The command ``python -m tinymetafed_codegen``, which PlatformIO's pre-build script runs."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import emit, spec
from .board import board_errors, board_key, boards
from .design import design
from .errors import Error


def main(given: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (None: those of the process); returns its exit code, 1 after an error."""
    parser = argparse.ArgumentParser(
        prog="python -m tinymetafed_codegen", description="Generates an experiment's C++ and manifest for one board."
    )
    parser.add_argument("experiment", type=Path, help="experiment file, for instance examples/sine.toml")
    parser.add_argument("--board", required=True, help="a board's name, for instance mps2, or its JSON file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the generated files")
    parser.add_argument("--receive-window", type=int, help="bytes of the receive window; default: those of the board's file")
    arguments = parser.parse_args(given)
    warnings.simplefilter("ignore", board_errors.BoardWarning)  # errors of this one board are reported anyway
    try:
        run(arguments.experiment, arguments.board, arguments.output, arguments.receive_window)
    except (Error, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def run(experiment: Path, board: str, output: Path, receive_window: int | None = None) -> None:
    """Generates the C++ and the manifest of an experiment for a board.

    Args:
        experiment: The experiment file.
        board: The board's name or its JSON file.
        output: The folder for the generated files.
        receive_window: Bytes of the receive window, instead of the figure in the board's file.

    Raises:
        SpecError: The experiment cannot be built.
        BoardError: The board is unknown or its file is unusable.
        BoardKeyError: The file that TINYMETAFED_BOARD_KEY names has no key.
        OSError: A file cannot be written.
    """
    known = boards.around(experiment)
    facts = known.load(board)
    facts = facts if receive_window is None else replace(facts, receive_window=receive_window)
    designed = design(spec.load(experiment), facts, str(experiment))
    emit.write(designed, output, emit.command(experiment, facts), key=board_key.compiled_in(designed.experiment))


if __name__ == "__main__":
    sys.exit(main())
