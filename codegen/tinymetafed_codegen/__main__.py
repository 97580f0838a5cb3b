"""The command ``python -m tinymetafed_codegen``, which PlatformIO's pre-build script runs."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from . import boards, emit, spec
from .design import design


def main() -> int:
    """Runs the command; returns its exit code, which is 1 after an error."""
    parser = argparse.ArgumentParser(
        prog="python -m tinymetafed_codegen", description="Generates an experiment's C++ and manifest for one board."
    )
    parser.add_argument("experiment", type=Path, help="experiment file, for instance examples/sine.toml")
    parser.add_argument("--board", required=True, help="a board's name, for instance mps2, or its JSON file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the generated files")
    parser.add_argument("--receive-window", type=int, help="bytes that may be under way to it, in place of its own figure")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", boards.BoardWarning)  # PlatformIO's build has one board, and says what is wrong with it
    try:
        run(arguments.experiment, arguments.board, arguments.output, arguments.receive_window)
    except (spec.SpecError, boards.BoardError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def run(experiment: Path, board: str, output: Path, receive_window: int | None = None) -> None:
    """Generates, with ``receive_window`` bytes in place of the board's own. Raises SpecError, BoardError, OSError."""
    known = boards.around(experiment)
    facts = known.load(board)
    facts = facts if receive_window is None else replace(facts, receive_window=receive_window)
    words = ["tinymetafed", "codegen", experiment.name, "--board", facts.name, "-o"]
    emit.write(design(spec.load(experiment), facts, str(experiment)), output, f"{shlex.join(words)} DIR")


if __name__ == "__main__":
    sys.exit(main())
