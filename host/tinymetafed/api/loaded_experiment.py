"""Loads experiments, changes keys, shows their memory on a board, and generates their C++."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, chosen_layers
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.memory import kept
from tinymetafed_codegen.memory.memory_prices import MemoryPrice, prices
from tinymetafed_codegen.memory.trainable import LayerChoice as LayerChoice
from tinymetafed_codegen.memory.work import longest_part_milliseconds, step_milliseconds
from tinymetafed_codegen.section import TomlValue
from tinymetafed_codegen.spec.toml_values import inline, plain

from ..runs.setup import BOARD, design_of, measured_design

# Values by ``section.key``, or texts ``section.key=value`` as for the command line's --set.
Changes = Mapping[str, TomlValue] | Sequence[str]


@dataclass(frozen=True)
class Experiment:
    """An experiment: task, model, strategy, run and evaluation, which together determine a run's result.

    ``spec``: the complete experiment, default values included. ``source``: its name in errors, usually its file.
    ``changes``: the keys that were changed after loading, as texts for --set.
    """

    spec: spec.Experiment
    source: str

    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its file, without suffix."""
        return Path(self.source).stem

    def manifest(self, board: str = "native") -> ModelManifest:
        """The manifest of its model on a board: weights, arena, RAM and flash in bytes, hashes.

        Args:
            board: The board's name.

        Raises:
            SpecError: Model and task do not fit.
            BudgetError: The model does not fit the board's memory.
            BoardError: The board is unknown, or its file is invalid.
        """
        return design_of(self.spec, self.source, board).manifest

    def to_toml(self) -> str:
        """The complete experiment as TOML."""
        return tomli_w.dumps(spec.dump(self.spec))


@dataclass(frozen=True)
class Generated:
    """The result of code generation: the design, the folder, and the files that changed.

    ``step_milliseconds``: lowest and highest estimate of a training step on the board, by variant ("local", "global", "full"),
    from counted multiply-accumulates and the chip's clock; {} for a board without figures. ``part_milliseconds``: the same for
    the longest part of a step, with board.split_steps; else None. ``memory_prices``: the arena and the work of a step with each
    choice of board.memory and model.activations.
    """

    design: Design
    folder: Path
    changed: tuple[Path, ...]
    step_milliseconds: Mapping[str, tuple[float, float]]
    part_milliseconds: tuple[float, float] | None = None
    memory_prices: tuple[MemoryPrice, ...] = ()

    @property
    def manifest(self) -> ModelManifest:
        """The manifest of the model on the board."""
        return self.design.manifest

    @property
    def kept(self) -> tuple[str, ...]:
        """Lines that say what the board keeps of samples for later passes, or why it keeps no activations that it could."""
        manifest = self.manifest
        found = [each.summary for each in (manifest.kept, manifest.kept_samples) if each is not None]
        reason = kept.why_no_activations(self.design.experiment, self.design.lowered, manifest)
        return (*found, reason) if reason else tuple(found)


def load(path: str | Path, set: Changes = ()) -> Experiment:
    """Loads an experiment file.

    Args:
        path: A TOML file such as examples/sine.toml.
        set: Keys to change, ``{"run.rounds": 500}``, or texts as the command line takes them, ``["run.rounds=500"]``.

    Returns:
        The experiment, complete and checked.

    Raises:
        SpecError: The file is missing or wrong; the text names file, key and remedy.
    """
    if isinstance(set, Mapping):
        values = {key: plain(value) for key, value in set.items()}
        loaded = spec.load(Path(path), settings=values)
        return Experiment(loaded, str(path), tuple(f"{key}={inline(value)}" for key, value in values.items()))
    return Experiment(spec.load(Path(path), set), str(path), tuple(set))


def codegen(experiment: Experiment, board: str, out: str | Path, *, library: bool = False) -> Generated:
    """Generates an experiment's C++ and its manifest for one board, or all of its firmware as a library for a sketch.

    Args:
        experiment: An experiment from ``load``.
        board: A board's name, for instance "mps2": a board of the experiment's project or of this package.
        out: The folder for the generated files. A library replaces an earlier one, but no folder with anything else in it.
        library: Write an Arduino and PlatformIO library that needs no other file: core, port and model. The board must be one
            that runs sketches.

    Returns:
        The design, the files that changed, and how long a training step takes.

    Raises:
        SpecError: The experiment cannot be built. BudgetError: the model does not fit the board's memory.
        BoardError: There is no such board.
        DataError: The input's normalisation has to be measured, and the data cannot be read.
        UsageError: The folder cannot be written to, or no sketch runs on the board.
        ExportError: The folder has something other than an earlier library in it.
    """
    # Imported here because all other work with an experiment starts sooner without them.
    from tinymetafed_codegen import emit
    from tinymetafed_codegen.board import board_key

    from ..runs import sketch_library_export

    design, folder = measured_design(experiment.spec, experiment.source, board), Path(out)
    steps = step_milliseconds(design.board, design.graph)
    splits = design.experiment.board.split_steps
    part = longest_part_milliseconds(design.board, design.graph) if splits else None
    milliseconds = {variant.name.lower(): both for variant, both in steps.items()}
    sets = [word for change in experiment.changes for word in ("--set", change)]
    words = ["tinymetafed", "codegen", Path(experiment.source).name, "--board", design.board.name, *sets]
    if library:
        command = shlex.join([*words, "--library"])
        written = sketch_library_export.write(design, steps, folder, f"{command} -o DIR")
        return Generated(design, folder, written, milliseconds, part, prices(design))
    words.append("-o")
    try:
        changed = emit.write(design, folder, f"{shlex.join(words)} DIR", key=board_key.compiled_in(design.experiment))
    except OSError as error:
        raise UsageError(
            f"--output {out}: cannot be a folder of generated files: {error.strerror}; name one that you may write to"
        ) from None
    return Generated(design, folder, tuple(changed), milliseconds, part, prices(design))


def choose_layers(experiment: Experiment) -> LayerChoice | None:
    """Picks the layers that train within the budget of model.trainable; they are the same for every board.

    Args:
        experiment: An experiment from ``load``.

    Returns:
        The layers, what each costs, and RAM with all layers training and with the picked ones; None if model.trainable is not a
        budget.

    Raises:
        SpecError: The budget is too small for any layer that boards share; the text names the smallest that works.
    """
    if experiment.spec.model.ram_budget is None:
        return None
    return chosen_layers(experiment.spec, boards.around(experiment.source).load(BOARD), experiment.source)


def data_path(task: spec.TaskBase, given: str | Path | None) -> Path | None:
    """The path of a task's data. Raises UsageError if one is given and the task reads none."""
    if given is None:
        return None
    if not task.reads_data:
        raise UsageError(f"--data {given}: task '{task.kind}' makes its samples itself and reads no data; leave --data out")
    return Path(given)
