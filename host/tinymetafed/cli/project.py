"""The command that begins a project of the user's own: new."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .. import project


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create; an empty one may be there already.")],
    board: Annotated[str, typer.Option(help="Board that `pio run` builds for unless told otherwise.")] = "native",
) -> None:
    """Begin a project of your own: an experiment on CSV files, their data, a sample source and what PlatformIO needs.

    tinymetafed new gestures && cd gestures && tinymetafed train experiment.toml
    """
    project.create(folder, board)
    print(f"{folder}: experiment.toml, data/, source.cpp, platformio.ini; README.md says what they are. Next:")
    print(f"  cd {shlex.quote(str(folder))}")
    print("  tinymetafed train experiment.toml --device native:2")
