"""Exports a run in any format: chooses the weights, names what they are, and writes a file or a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from ..learn.strategies import open_strategy
from . import export, export_library, exported_weights
from .export import FileFormat, Outputs
from .exported_weights import ExportedWeights, ExportError
from .run_data import RunData
from .setup import design_of, set_up
from .unchanged import same_design

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
    weights: ExportedWeights | None = None
    if client is not None:
        source = str(run.path / "experiment.toml")
        setup = set_up(run.experiment(), source, data or run.data)
        same_design(setup.design, run)
        weights = exported_weights.of_client(run, setup, client)
    if adapt or is_library:
        made = design_of(run.experiment(), str(run.path / "experiment.toml"))
        same_design(made, run)
        strategy = open_strategy(run.experiment(), made.manifest)
        if adapt:
            weights = exported_weights.of_files(run, made, strategy, adapt)
        if is_library:
            kind = cast(Literal["arduino", "cpp"], chosen_format)
            chosen = weights or exported_weights.initial(run, strategy)
            export_library.write(run, made, strategy, chosen, kind, output, run.header.asked.class_names)
            return Exported(output, chosen.origin)
    file_format = cast(FileFormat, chosen_format)
    file = output if output.suffix == export.SUFFIXES[file_format] else output / f"{run.name}{export.SUFFIXES[file_format]}"
    export.write(run, file, weights, outputs)
    return Exported(file, weights.origin if weights else f"the weights after {run.kept_round} rounds")


def _format(output: Path, asked: str | None) -> Format:
    """The format to write. Raises ExportError if neither ``asked`` nor the suffix says it, or if they differ."""
    if not output.name:
        raise ExportError(f"{output}: a folder, not a file; give for instance -o weights.npz, or a new folder for a library")
    by_suffix = {suffix: name for name, suffix in export.SUFFIXES.items()}
    if asked is not None and asked not in get_args(Format):
        raise ExportError(f"--format '{asked}': unknown; expected {', '.join(get_args(Format))}")
    found = by_suffix.get(output.suffix)
    if asked is None:
        if found is None:
            why = f"unknown format '{output.suffix}'" if output.suffix else "no suffix says which format is meant"
            raise ExportError(
                f"{output}: {why}; expected FILE.npz (NumPy), FILE.h (C header), FILE.keras or FILE.tflite, "
                f"for instance -o {output.with_suffix('.npz')}; or a folder for a library: --format arduino -o {output.stem}"
            )
        return found
    if found is not None and found != asked:
        right = output.with_suffix(export.SUFFIXES[asked]) if asked in export.SUFFIXES else output.with_suffix("")
        raise ExportError(f"{output}: --format {asked} does not write {output.suffix}; leave --format out, or give -o {right}")
    return cast(Format, asked)
