"""An experiment in a user's hands: loaded from its file, changed, its cost on a board known, its C++ generated."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.section import TomlValue

from ..runs.setup import design_of

# ``section.key`` to its value, or texts ``section.key=value`` as the command line's --set takes them.
Changes = Mapping[str, TomlValue] | Sequence[str]


@dataclass(frozen=True)
class Experiment:
    """All that determines a run's result: task, model, strategy, adaptation, run, evaluation.

    ``spec`` is the complete experiment with nothing left to default; ``source`` is what errors call it, its file as a rule;
    ``changes`` are the keys that were set otherwise than in the file, as texts for --set.
    """

    spec: spec.Experiment
    source: str

    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A short name: that of its file, without suffix."""
        return Path(self.source).stem

    def manifest(self, board: str = "native") -> ModelManifest:
        """The facts of its model on a board: weights, arena, RAM and flash in bytes, hashes.

        Raises SpecError where model and task do not fit, BudgetError where the board is too small, BoardError.
        """
        return design_of(self.spec, self.source, board).manifest

    def to_toml(self) -> str:
        """The complete experiment as TOML."""
        return tomli_w.dumps(spec.dump(self.spec))


@dataclass(frozen=True)
class Generated:
    """What code generation decided, the folder it wrote to, and which of its files changed."""

    design: Design
    folder: Path
    changed: tuple[Path, ...]

    @property
    def manifest(self) -> ModelManifest:
        """The facts of the model on the board."""
        return self.design.manifest


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
        loaded = spec.load(Path(path), settings=set)
        return Experiment(loaded, str(path), tuple(f"{key}={json.dumps(value)}" for key, value in set.items()))
    return Experiment(spec.load(Path(path), set), str(path), tuple(set))


def codegen(experiment: Experiment, board: str, out: str | Path) -> Generated:
    """Generates an experiment's C++ and its manifest for one board.

    Args:
        experiment: What ``load`` gave.
        board: A board's name, for instance "mps2"; of the experiment's project, or one of ours.
        out: The folder for the generated files.

    Returns:
        What was decided, and which files changed.

    Raises:
        SpecError: The experiment cannot be built; BudgetError where the board is too small.
        BoardError: There is no such board.
        UsageError: The folder cannot be written to.
    """
    design, folder = design_of(experiment.spec, experiment.source, board), Path(out)
    sets = [word for change in experiment.changes for word in ("--set", change)]
    words = ["tinymetafed", "codegen", Path(experiment.source).name, "--board", design.board.name, *sets, "-o"]
    try:
        changed = emit.write(design, folder, f"{shlex.join(words)} DIR")
    except OSError as error:
        raise UsageError(
            f"--output {out}: cannot be a folder of generated files: {error.strerror}; name one that you may write to"
        ) from None
    return Generated(design, folder, tuple(changed))
