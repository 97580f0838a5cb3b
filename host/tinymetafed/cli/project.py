"""Commands that begin an experiment of the user's own: new, import."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import tinymetafed as tmf

from .output import notes

TaskKind = StrEnum("TaskKind", list(tmf.TASKS))  # type: ignore[misc]
LossName = StrEnum("LossName", list(tmf.LOSSES))  # type: ignore[misc]


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create; an empty one may be there already.")],
    board: Annotated[
        str,
        typer.Option(help="Board that `pio run` builds for unless told otherwise; rp2040 becomes one of the project's own."),
    ] = "native",
) -> None:
    """Begin a project of your own: an experiment on CSV files, their data, a sample source and what PlatformIO needs.

    tinymetafed new gestures && cd gestures && tinymetafed train experiment.toml
    """
    tmf.new_project(folder, board)
    own = f", boards/{board}.json, port/{board}/" if (folder / "boards").is_dir() else ""
    written = f"experiment.toml, data/, source.cpp, platformio.ini, platform/{own}"
    print(f"{folder}: {written}; README.md says what they are. Next:")
    print(f"  cd {shlex.quote(str(folder))}")
    print("  tinymetafed train experiment.toml --device native:2")


def import_(
    model: Annotated[Path, typer.Argument(help="FILE.keras, FILE.h5, a float FILE.tflite, or a SavedModel's folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Experiment to write; its weights go beside it, as .npz.")],
    task: Annotated[TaskKind, typer.Option(help="The task that the experiment names.")] = TaskKind("folder"),  # noqa: B008
    loss: Annotated[LossName | None, typer.Option(help="Loss; by default the one that the file tells.")] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="N|LAYER",
            help="Layers with weights to freeze: how many of the first, or the name of the last of them.",
            show_default="the first ones that are not trainable in the file",
        ),
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A local layer; may be given several times.", show_default="the last that trains"),
    ] = None,
) -> None:
    """Begin an experiment from a trained model: a TOML file to edit and, beside it, the weights.

    tinymetafed import net.keras -o experiment.toml --freeze 3
    """
    for note in tmf.import_model(model, output, task=task, loss=loss, freeze=freeze, local=local or ()):
        notes.print(note, markup=False, highlight=False, soft_wrap=True)
    print(f"{output}, {output.with_suffix('.npz').name}: written. Next:")
    print(f"  tinymetafed codegen {shlex.quote(str(output))} --board nano33ble -o build/{output.stem}")
