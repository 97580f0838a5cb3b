"""Commands that create an experiment: new, import."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import tinymetafed as tmf

from .output import notes, results

TaskKind = StrEnum("TaskKind", list(tmf.TASKS))  # type: ignore[misc]
LossName = StrEnum("LossName", list(tmf.LOSSES))  # type: ignore[misc]


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create; an existing one must be empty.")],
    board: Annotated[
        str,
        typer.Option(
            help="Board that `pio run` builds for by default; "
            "esp32c3, esp32s3, nucleo_f446re or rp2040 is added as the project's own board."
        ),
    ] = "native",
) -> None:
    """Create a project of your own: an experiment on CSV files, their data, a sample source and PlatformIO's files.

    tinymetafed new gestures && cd gestures && tinymetafed train experiment.toml
    """
    tmf.new_project(folder, board)
    own = f", boards/{board}.json, port/{board}/" if (folder / "boards").is_dir() else ""
    written = f"experiment.toml, data/, source.cpp, platformio.ini, platform/{own}"
    results().write(f"{folder}: {written}; README.md says what they are. Next:")
    results().write(f"  cd {shlex.quote(str(folder))}")
    results().write("  tinymetafed train experiment.toml --device native:2")


def import_(
    model: Annotated[Path, typer.Argument(help="FILE.keras, FILE.h5, FILE.tflite, or a SavedModel's folder.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Experiment file to write; its weights get the same name with .npz.")
    ],
    task: Annotated[TaskKind, typer.Option(help="The experiment's task.")] = TaskKind("folder"),  # noqa: B008
    loss: Annotated[LossName | None, typer.Option(help="The experiment's loss; default: that of the model file.")] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="N|LAYER",
            help="How many of the first layers with weights to freeze, or the name of the last one.",
            show_default="those that are not trainable in the file; of a quantised .tflite, all but the last",
        ),
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A local layer; may be given several times.", show_default="the last that trains"),
    ] = None,
    outputs: Annotated[
        int | None,
        typer.Option(help="Outputs of a new last layer, which begins with random weights; default: the file's layer."),
    ] = None,
) -> None:
    """Create an experiment from a trained model: a TOML file to edit and, in the same folder, the weights.

    tinymetafed import net.keras -o experiment.toml --freeze 3

    A quantised .tflite computes in int8 up to the layers that train; here a new layer for four classes:

    tinymetafed import keywords_int8.tflite -o experiment.toml --outputs 4
    """
    for note in tmf.import_model(model, output, task=task, loss=loss, freeze=freeze, local=local or (), outputs=outputs):
        notes.print(note, soft_wrap=True)
    results().write(f"{output}, {output.with_suffix('.npz').name}: written. Next:")
    results().write(f"  tinymetafed codegen {shlex.quote(str(output))} --board nano33ble -o build/{output.stem}")
