"""Checks the user's data before anything is trained: problems, facts, and what a board would need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinymetafed_codegen import graph
from tinymetafed_codegen import spec as specs
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import FolderTask, TaskShapes

from ..learn.normalisation import measure, unfit_values
from ..learn.tasks import DataError
from ..learn.tasks.folder import Folder, with_dtype
from ..learn.tasks.own_data.examination import DataFacts, below, examine_data
from ..learn.tasks.own_data.folder_content import Reading
from ..learn.tasks.own_data.problems import Place, Problem, causes
from ..learn.tasks.own_data.reading import SUFFIXES, read_folder
from ..runs.foreign_parts import require_own_code
from .api_defaults import CHECK_BOARD
from .loaded_experiment import Changes, Experiment, LayerChoice, choose_layers, load


@dataclass(frozen=True)
class BoardNeeds:
    """What an experiment's model needs on a board, in bytes; ``sample`` is one sample as it travels to the board."""

    board: str
    weights: int
    ram: int
    ram_available: int
    flash: int
    flash_available: int
    sample: int


@dataclass(frozen=True)
class DataProblem:
    """A problem: file, row and column (counted from 1; None where all are meant), what is wrong, what to do."""

    file: str
    row: int | None
    column: int | None
    what: str
    remedy: str
    text: str


@dataclass(frozen=True)
class DataCause:
    """Problems with one cause: the text of the first one, their number, and their number in each file.

    Files are relative to the folder of the data.
    """

    text: str
    count: int
    files: Mapping[str, int]


@dataclass(frozen=True)
class DataCheck:
    """The result of ``check``.

    Attributes:
        path: The folder with the data.
        facts: What it holds; None if nothing could be read.
        problems: What keeps it from being trained on; ``problem_count`` counts more where many are alike.
        causes: The same problems, those with one cause together.
        notes: What was decided by what the files look like.
        needs: What the board needs; None without an experiment.
        choice: The layers that train within the budget of model.trainable; None where that is not a budget.
    """

    path: str
    facts: DataFacts | None
    problems: tuple[DataProblem, ...]
    problem_count: int
    causes: tuple[DataCause, ...]
    notes: tuple[str, ...]
    needs: BoardNeeds | None
    choice: LayerChoice | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def check(
    source: Experiment | str | Path, set: Changes = (), *, data: str | Path | None = None, board: str | None = None
) -> DataCheck:
    """Checks the user's data: finds all problems of all files at once, and says what the files hold.

    Args:
        source: An experiment with the task ``folder``, its file, or a folder: with an experiment.toml that one, otherwise its
            CSV and NPZ files, each row a sample whose label comes last.
        set: Keys to change, as for ``load``; for a folder without experiment keys of [task].
        data: Another folder in place of ``task.path`` of the experiment.
        board: The board whose memory the experiment's model is compared with; None for ``CHECK_BOARD``.

    Returns:
        Facts and problems.

    Raises:
        SpecError: The experiment, or a key of ``set``, is wrong.
        UsageError: The experiment has another task than ``folder``; or ``data`` or ``board`` is given without an experiment.
        BoardError: There is no such board.
    """
    experiment = _experiment(source, set)
    if experiment is None:
        assert not isinstance(source, Experiment)
        folder = Path(source)
        for option, given, why in (
            ("--data", data, "is a folder in place of an experiment's task.path"),
            ("--board", board, "is compared with an experiment's model"),
        ):
            if given is not None:
                raise UsageError(f"{option} {given} {why}, and {folder} has no experiment.toml; leave {option} out")
        return _result(folder, specs.folder_task(folder, set), None, 1, None, (), None)
    task = experiment.spec.task.own_files
    if task is None:
        raise UsageError(
            f"{experiment.source}: task.kind = '{experiment.spec.task.kind}'; check is for the files of task 'folder', which "
            "are the user's own"
        )
    problems = list[Problem]()
    here = Place(Path(experiment.source))
    needs, shapes, choice = None, None, None
    try:
        choice = choose_layers(experiment)
        shapes = graph.build(experiment.spec.model, experiment.source).shapes
        sent = with_dtype(experiment.spec, None if data is None else Path(data)).task
        needs = _needs(experiment.manifest(board or CHECK_BOARD), sent.bytes_per_input)
    except specs.SpecError as error:  # BudgetError too
        problems.append(_said(here, str(error).removeprefix(f"{experiment.source}: ")))
    found = _result(Path(data or task.path), task, shapes, experiment.spec.run.seed, needs, problems, experiment)
    return replace(found, choice=choice)


def _experiment(source: Experiment | str | Path, set: Changes) -> Experiment | None:
    """The experiment to check; None for a folder of data."""
    if isinstance(source, Experiment):
        return source
    path = Path(source)
    if path.is_dir():
        inside = path / "experiment.toml"
        if not inside.is_file():
            return None
        require_own_code(inside, f"name it: tinymetafed check {inside}")
        return load(inside, set)
    if not path.exists():
        raise UsageError(f"{path}: no such folder or experiment file")
    if path.suffix.lower() == ".zip":
        return None
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{path}: a data file; give the folder that it is in, or the experiment")
    return load(path, set)


def _needs(manifest: ModelManifest, bytes_per_input: int) -> BoardNeeds:
    memory, sample = manifest.memory, bytes_per_input * math.prod(manifest.input_shape) + 4 * manifest.target_size
    return BoardNeeds(
        manifest.board,
        manifest.n_parameters,
        memory.ram_total,
        memory.ram_available,
        memory.flash,
        memory.flash_available,
        sample,
    )


def _result(
    folder: Path,
    task: FolderTask,
    shapes: TaskShapes | None,
    seed: int,
    needs: BoardNeeds | None,
    problems: Sequence[Problem],
    experiment: Experiment | None,
) -> DataCheck:
    try:
        reading = read_folder(folder, task, shapes, seed)
    except DataError as error:
        problems = [*problems, _said(Place(folder), str(error).removeprefix(f"{folder}: "))]
        found = tuple(map(_problem, problems))
        return DataCheck(str(folder), None, found, len(problems), _causes(problems, folder), (), needs)
    if experiment is not None and shapes is not None and not reading.problems:
        problems = [*problems, *_unfit_values(reading, task, shapes, experiment)]
    problems = [*problems, *reading.problems]
    count, grouped = sum(each.count for each in problems), _causes(problems, folder)
    facts = examine_data(reading, task)
    running = experiment.spec.data.running_note if experiment is not None else ""
    notes = (*reading.usual_forms, *reading.notes, *([running] if running else []))
    return DataCheck(str(folder), facts, tuple(map(_problem, problems)), count, grouped, notes, needs)


def _unfit_values(reading: Reading, task: FolderTask, shapes: TaskShapes, experiment: Experiment) -> list[Problem]:
    """The values that the model cannot compute with, as problems."""
    opened = Folder.of_reading(reading, task, shapes, experiment.spec.run.seed, experiment.spec.run.clients)
    data = measure(experiment.spec, opened, experiment.source).data
    return [Problem(Place(Path(each.file)), each.what, each.remedy, each.remedy) for each in unfit_values(data, opened)]


def _said(place: Place, what: str) -> Problem:
    """A problem that an error's text says, remedy included."""
    return Problem(place, what, "", what)


def _causes(problems: Sequence[Problem], root: Path) -> tuple[DataCause, ...]:
    return tuple(
        DataCause(str(each.first), each.count, {below(file, root): count for file, count in each.counts.items()})
        for each in causes(problems)
    )


def _problem(found: Problem) -> DataProblem:
    place = found.place
    return DataProblem(str(place.file), place.row, place.column, found.what, found.remedy, str(found))
