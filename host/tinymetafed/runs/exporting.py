"""Exports a run in any format: chooses the weights, names what they are, and writes a file or a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from tinymetafed_codegen.spec import FolderTask, OwnTaskSpec

from ..learn.strategies import open_strategy
from ..learn.tasks import DataError
from ..learn.tasks.task_registry import open_task
from . import export, export_library, exported_weights
from .export import FileFormat, Outputs
from .exported_weights import ExportedWeights, ExportError
from .run_data import RunData
from .setup import Setup, design_of, set_up
from .training import same_design

Format = Literal["arduino", "cpp", "header", "keras", "tflite", "npz"]


@dataclass(frozen=True)
class Exported:
    """What an export has written: the file or folder, and a line that says which weights it has."""

    path: Path
    origin: str


def write(
    run: RunData,
    output: Path,
    *,
    format: str | None = None,
    client: str | None = None,
    adapt: Sequence[Path] = (),
    outputs: Outputs = "logits",
    data: Path | None = None,
) -> Exported:
    """Exports a run.

    Args:
        run: The run.
        output: The file or, for a library, its folder. A path without the format's suffix is a folder for the file.
        format: The format; None for the one of the file's suffix.
        client: A client to adapt the weights to; None for none.
        adapt: Files to adapt the weights to; empty for none.
        outputs: Whether a network for TensorFlow ends in logits or in the activation of its loss.
        data: Folder of the task's data; None for that of the run.

    Returns:
        What was written.

    Raises:
        ExportError: The options do not fit each other, the run or the folder.
        Error: DataError, BuildError, ModelFileError, StoreError, SpecError.
    """
    chosen_format = _format(output, format)
    if client is not None and adapt:
        raise ExportError("--client and --adapt: give one of them; a model is adapted to one set of samples")
    if outputs != "logits" and chosen_format not in ("keras", "tflite"):
        raise ExportError(f"--outputs {outputs} is for .keras and .tflite; a library computes them with probabilities()")
    is_library = chosen_format in ("arduino", "cpp")
    if is_library:
        export_library.require_replaceable(output)
    setup = None
    adapted: ExportedWeights | None = None
    if client is not None or adapt:
        setup = _set_up(run, data)
        adapted = exported_weights.of_files(run, setup, adapt) if adapt else exported_weights.of_client(run, setup, str(client))
    if is_library:
        source = str(run.path / "experiment.toml")
        made = setup.design if setup else design_of(run.experiment(), source)
        same_design(made, run)
        strategy = setup.strategy if setup else open_strategy(run.experiment(), made.manifest)
        weights = adapted or exported_weights.initial(run, strategy)
        names = setup.task.class_names if setup else _class_names(run, data)
        kind = cast(Literal["arduino", "cpp"], chosen_format)
        export_library.write(run, made, strategy, weights, kind, output, names)
        return Exported(output, weights.origin)
    file_format = cast(FileFormat, chosen_format)
    file = output if output.suffix == export.SUFFIXES[file_format] else output / f"{run.name}{export.SUFFIXES[file_format]}"
    export.write(run, file, adapted.weights if adapted else None, outputs)
    return Exported(file, adapted.origin if adapted else f"the weights after {run.trained} rounds")


def _format(output: Path, asked: str | None) -> Format:
    """The format to write. Raises ExportError if neither ``asked`` nor the suffix says it, or if they differ."""
    by_suffix = {suffix: name for name, suffix in export.SUFFIXES.items()}
    if asked is not None and asked not in get_args(Format):
        raise ExportError(f"--format '{asked}': unknown; expected {', '.join(get_args(Format))}")
    found = by_suffix.get(output.suffix)
    if asked is None:
        if found is None:
            raise ExportError(
                f"{output}: unknown format '{output.suffix}'; expected FILE.npz (NumPy), FILE.h (C header), FILE.keras or "
                "FILE.tflite, or a folder and --format arduino, cpp, header, keras, tflite or npz"
            )
        return found
    if found is not None and found != asked:
        raise ExportError(f"{output}: a file of format {found}, but --format is {asked}; leave one of them out")
    return cast(Format, asked)


def _set_up(run: RunData, data: Path | None) -> Setup:
    setup = set_up(run.experiment(), str(run.path / "experiment.toml"), data or run.data)
    same_design(setup.design, run)
    return setup


def _class_names(run: RunData, data: Path | None) -> Sequence[str]:
    """The names of the classes in the user's own data; () where they cannot be read, or no data are there to be read."""
    experiment = run.experiment()
    if not isinstance(experiment.task, FolderTask | OwnTaskSpec):
        return ()
    try:
        return open_task(experiment, data or run.data).class_names
    except DataError:
        return ()
