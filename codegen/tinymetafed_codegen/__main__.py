"""Code generation as a command of its own: what PlatformIO's pre-build script calls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import boards, generate, spec


def main() -> int:
    """Generates into a folder; 1 and one clear line on standard error when the experiment cannot be built."""
    parser = argparse.ArgumentParser(
        prog="python -m tinymetafed_codegen", description="Generates an experiment's C++ and manifest for one board."
    )
    parser.add_argument("experiment", type=Path, help="experiment file, for instance examples/sine.toml")
    parser.add_argument("--board", required=True, help="a board of boards/, for instance mps2")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the generated files")
    arguments = parser.parse_args()
    try:
        run(arguments.experiment, arguments.board, arguments.output)
    except (spec.SpecError, boards.BoardError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def run(experiment: Path, board: str, output: Path) -> tuple[generate.Design, list[Path]]:
    """Generates; returns what was decided and which files changed. Raises SpecError, BoardError, OSError."""
    settled = generate.design(spec.load(experiment), boards.load(board), str(experiment))
    command = f"tinymetafed codegen {experiment.name} --board {board}"
    return settled, generate.write(settled, output, command)


if __name__ == "__main__":
    sys.exit(main())
