"""Reads a sweep file into runs, variants × grid × clients left out × seeds, and checks all before the first one starts."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from tinymetafed_codegen.design import Design
from tinymetafed_codegen.files import suggestion
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.section import Section, TomlValue
from tinymetafed_codegen.spec import Experiment, SpecError, TooFewClients
from tinymetafed_codegen.spec import load as load_experiment
from tinymetafed_codegen.spec.mistakes import explain
from tinymetafed_codegen.toml_text import decoded

from ...learn.strategies import open_strategy
from ...learn.tasks.own_data.kept_tables import tables_kept
from ...learn.tasks.task_registry import open_task
from ...runs.foreign_parts import of_experiment, remember
from ...runs.setup import design_of
from .. import SweepError
from .folds import HELD_OUT_KEY, folds, settings

SEED = "run.seed"
GROUP = "evaluation.group"

Settings = dict[str, TomlValue]  # by section.key
_Table = dict[str, Any]  # as a TOML file has it, before its keys are checked


class _VariantSpec(Section):
    name: str
    set: _Table = Field(default_factory=dict)
    grid: _Table = Field(default_factory=dict)
    experiment: str | None = None


class _SweepSpec(Section):
    """The keys of a sweep file. ``leave_out``: clients that a run holds out; each is unseen in one run of a seed."""

    experiment: str | None = None
    leave_out: Annotated[int, Field(ge=1)] | None = None
    group: Literal["test", "validation"] = "test"
    baseline: str | None = None
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 32)]], Field(min_length=1)]
    grid: _Table = Field(default_factory=dict)
    variant: list[_VariantSpec] = Field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """One combination of options: its experiment file and its design.

    ``variant``: its name without the clients that are left out. ``left_out``: their names; () where a sweep leaves out none.
    """

    name: str
    source: Path
    design: Design = field(repr=False)
    variant: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def experiment(self) -> Experiment:
        """The complete experiment, with the sweep's first seed."""
        return self.design.experiment

    @property
    def manifest(self) -> ModelManifest:
        """The manifest of its model."""
        return self.design.manifest

    @property
    def folder(self) -> str:
        """The name in a form that is valid for a folder."""
        return re.sub(r"[^\w.=,+-]+", "-", self.name).strip("-.") or "-"


@dataclass(frozen=True)
class Run:
    """One cell with one seed."""

    cell: Cell
    seed: int

    @property
    def experiment(self) -> Experiment:
        """The complete experiment, with this seed."""
        run = self.cell.experiment.run.model_copy(update={"seed": self.seed})
        return self.cell.experiment.model_copy(update={"run": run})

    @property
    def folder(self) -> Path:
        """Its folder, relative to the sweep's."""
        return Path("runs") / self.cell.folder / f"seed-{self.seed}"

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.cell.name}, seed {self.seed}"


@dataclass(frozen=True)
class Sweep:
    """A sweep that has been checked.

    ``group``: the clients that its runs are scored by: "test", or "validation" for a sweep by which something is chosen.
    ``baseline``: the row that the others are compared with; None for no comparison.
    ``left_out``: for each combination that has too few clients for its rounds, its name and the reason; the others run.
    """

    path: Path
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    group: str = "test"
    baseline: str | None = None

    @property
    def runs(self) -> list[Run]:
        """All runs, in the table's order."""
        return [Run(cell, seed) for cell in self.cells for seed in self.seeds]

    def shortened(self, divisor: int) -> Sweep:
        """The sweep with the first seed only and rounds divided by ``divisor``, for a quick check."""
        cells = []
        for cell in self.cells:
            run, strategy = cell.experiment.run, cell.experiment.strategy
            rounds = min(run.rounds, max(run.rounds // divisor, 1))
            if (cycle := strategy.restart_rounds) is not None:  # as many cycles, all of them whole
                cycles = run.rounds // cycle
                rounds = max(rounds // cycles, 1) * cycles
                strategy = strategy.model_copy(update={"restart_rounds": rounds // cycles})
            short = {"run": run.model_copy(update={"rounds": rounds}), "strategy": strategy}
            cells.append(replace(cell, design=replace(cell.design, experiment=cell.experiment.model_copy(update=short))))
        return replace(self, seeds=self.seeds[:1], cells=tuple(cells))


def load(path: Path, data: Path | None = None, leave_out: int | None = None) -> Sweep:
    """Reads a sweep file and checks every cell of it.

    Args:
        path: The file.
        data: The task's data, which have the names of the clients to leave out; None for the usual place.
        leave_out: In place of ``leave_out`` in the file; None for that.

    Returns:
        The sweep.

    Raises:
        SweepError: The file is invalid, or no cell has enough clients.
        DataError: The data of a sweep that leaves clients out cannot be read.
    """
    try:
        raw = decoded(path.read_text(encoding="utf-8"))
        file = _SweepSpec.model_validate(raw if leave_out is None else raw | {"leave_out": leave_out})
    except FileNotFoundError:
        remedy = suggestion(path, "examples/sweeps has some to start from")
        raise SweepError(f"{path}: no such sweep file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SweepError(f"{path}: not valid TOML: {error}") from None
    except pydantic.ValidationError as error:
        raise SweepError(f"{path}: {explain(error, _SweepSpec)}") from None
    if len(set(file.seeds)) < len(file.seeds):
        raise SweepError(f"{path}: seeds = {file.seeds} names one twice; name each seed once")
    cells: list[Cell] = []
    left_out: list[tuple[str, str]] = []
    with tables_kept():
        for name, over, base in _chosen(path, file):
            try:
                cell = _cell(path, file, name, over, base)
                cells += _leaving_out(path, file, cell, over, base, data) if file.leave_out else [cell]
            except TooFewClients as error:
                left_out.append((name, str(error)))
    if not cells:
        raise SweepError(f"{path}: '{left_out[0][0]}': {left_out[0][1]}")
    taken: dict[str, str] = {}
    for cell in cells:
        if (other := taken.setdefault(cell.folder, cell.name)) is not cell.name:
            raise SweepError(f"{path}: '{other}' and '{cell.name}' would share the folder {cell.folder}; rename one")
    rows = list(dict.fromkeys(cell.variant or cell.name for cell in cells))
    if file.baseline is not None and file.baseline not in rows:
        names = ", ".join(f"'{name}'" for name in rows)
        raise SweepError(f"{path}: baseline = '{file.baseline}' is not a row of this sweep; there are {names}")
    return Sweep(path, tuple(file.seeds), tuple(cells), tuple(left_out), file.group, file.baseline)


def _chosen(path: Path, file: _SweepSpec) -> Iterator[tuple[str, Settings, str | None]]:
    """Name, settings and experiment of each cell: variants × grid; a variant's own grid comes in place of the file's."""
    for variant in file.variant or [_VariantSpec(name="")]:
        over = _flat(variant.set)
        for point in _points(path, variant.grid or file.grid):
            if both := sorted(over.keys() & point.keys()):
                raise SweepError(f"{path}: variant '{variant.name}': {both[0]} is in the grid as well; leave it out of one")
            values = ", ".join(f"{key.rpartition('.')[2]}={_text(value)}" for key, value in point.items())
            yield ", ".join(part for part in (variant.name, values) if part) or path.stem, over | point, variant.experiment


def _points(path: Path, given: Mapping[str, TomlValue]) -> list[Settings]:
    """All combinations of a grid's values; a single empty one without a grid. Raises SweepError."""
    grid: dict[str, list[TomlValue]] = {}
    for key, values in _flat(given).items():
        if not isinstance(values, list) or not values:
            raise SweepError(f"{path}: grid.{key} = {values!r}: expected a list of the values to try")
        grid[key] = values
    return [dict(zip(grid, choice, strict=True)) for choice in itertools.product(*grid.values())]


def _cell(path: Path, file: _SweepSpec, name: str, settings: Settings, experiment: str | None) -> Cell:
    chosen = experiment or file.experiment
    if chosen is None:
        raise SweepError(f"{path}: '{name}' has no experiment; name its file: experiment = \"../sine.toml\"")
    if SEED in settings:
        raise SweepError(f"{path}: '{name}': {SEED} cannot be set, the sweep sets it; put the seeds into seeds = [...]")
    if GROUP in settings:
        raise SweepError(f"{path}: '{name}': {GROUP} cannot be set, it is the same for all runs; write group = \"validation\"")
    source = path.parent / chosen
    scored: Settings = {} if file.group == "test" else {GROUP: file.group}
    try:
        loaded = load_experiment(source, settings=settings | scored | {SEED: file.seeds[0]})
        remember(of_experiment(loaded, str(source)))  # the user has named it
        designed = design_of(loaded, str(source))
        open_strategy(loaded, designed.manifest)  # a user's class may be missing
    except TooFewClients:
        raise
    except SpecError as error:
        raise SweepError(f"{path}: '{name}': {error}") from None
    return Cell(name, source, designed)


def _leaving_out(
    path: Path, file: _SweepSpec, cell: Cell, chosen: Settings, experiment: str | None, data: Path | None
) -> list[Cell]:
    """A cell for each group of clients that is left out together. Raises SweepError, DataError."""
    assert file.leave_out is not None
    if HELD_OUT_KEY in chosen:
        raise SweepError(f"{path}: '{cell.name}': {HELD_OUT_KEY} cannot be set, leave_out sets it; leave one of them out")
    validation = getattr(cell.experiment.task, "validation", None)
    kept = validation if isinstance(validation, tuple) else ()
    names = [name for name in open_task(cell.experiment, data).names_to_hold_out if name not in kept]
    if not names:
        raise SweepError(
            f"{path}: '{cell.name}': leave_out needs clients that have names, those of a folder or the speakers of keywords, "
            f"but task.kind = '{cell.experiment.task.kind}'; remove leave_out"
        )
    if file.leave_out >= len(names):
        raise SweepError(f"{path}: leave_out = {file.leave_out} of {len(names)} clients leaves nobody to train on; lower it")
    keeps = validation is not None
    return [
        replace(
            _cell(
                path,
                file,
                f"{cell.name}, without {' '.join(fold)}",
                chosen | settings(fold, keeps_validation=keeps),
                experiment,
            ),
            variant=cell.name,
            left_out=fold,
        )
        for fold in folds(names, file.leave_out, file.seeds[0])
    ]


def _flat(nested: Mapping[str, TomlValue], prefix: str = "") -> Settings:
    """Values by dotted keys, for tables and for quoted keys with dots alike."""
    found: Settings = {}
    for key, value in nested.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _text(value: TomlValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
