"""The set-up of a run: the experiment's design, data and strategy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.spec import Experiment

from ..federation.meta_test import Group
from ..learn.client_groups import ClientGroup
from ..learn.normalisation import measure, require_fit
from ..learn.strategies import Strategy, open_strategy
from ..learn.tasks import DataError, Task
from ..learn.tasks.folder import with_dtype
from ..learn.tasks.task_registry import open_task
from . import foreign_parts

BOARD = "native"  # the board of the manifest that is used before the devices are known


@dataclass(frozen=True)
class Setup:
    """An experiment with everything that its rounds need, made once per run. ``data``: its data, None for the usual place."""

    design: Design
    task: Task
    strategy: Strategy
    data: Path | None

    @property
    def experiment(self) -> Experiment:
        """The complete experiment."""
        return self.design.experiment

    @property
    def keeps_best(self) -> bool:
        """Whether the best weights are kept, not those of the last round."""
        return self.experiment.run.chooses

    @property
    def tested(self) -> Group:
        """The clients of the final meta-test: test clients, or those for validation with ``evaluation.group``."""
        return Group.named(self.task, ClientGroup(self.experiment.evaluation.group))

    @property
    def source(self) -> str:
        """The experiment's name in errors, for instance its file."""
        return self.design.source


def design_of(experiment: Experiment, source: str, board: str = BOARD, data: Path | None = None) -> Design:
    """The experiment's model on a board, which receives images and sounds as bytes.

    Args:
        experiment: The complete experiment.
        source: Its name in errors, for instance its file. Boards of the project that this file is in come before ours.
        board: The board's name.
        data: Folder of the task's data; None for the usual place.

    Returns:
        The design. Board files that cannot be used cause a warning.

    Raises:
        SpecError: The experiment is invalid.
        BudgetError: The model does not fit the board.
        BoardError: The board is unknown, or its file is invalid.
    """
    known = boards.around(source)
    return design(with_dtype(experiment, data), known.load(board), source, known)


def set_up(experiment: Experiment, source: str, data: Path | None) -> Setup:
    """Designs the model, reads the data, measures their normalisation and opens the strategy.

    From then on the experiment's code is known as the user's own.

    Args:
        experiment: The complete experiment; that of a run has been vetted.
        source: Its name in errors, for instance its file.
        data: Folder of the task's data; None for the usual place.

    Returns:
        The set-up.

    Raises:
        SpecError: The experiment is invalid.
        BudgetError: The model does not fit the board.
        DataError: The data cannot be read.
    """
    foreign_parts.remember(foreign_parts.of_experiment(experiment, source))
    designed = design_of(experiment, source, data=data)
    task = open_task(experiment, data)
    _require_validation(experiment, task, source)
    measured = measure(experiment, task, source)
    require_fit(measured.data, task, source)
    if experiment.data != measured.data:
        designed = design_of(experiment.model_copy(update={"data": measured.data}), source, data=data)
    task.notes = (*task.notes, *measured.notes)
    return Setup(designed, task, open_strategy(designed.experiment, designed.manifest), data and data.resolve())


def _require_validation(experiment: Experiment, task: Task, source: str) -> None:
    """Raises DataError if the experiment needs validation clients and there are none."""
    keys = {
        "run.keep = 'best'": experiment.run.chooses,
        "evaluation.group = 'validation'": experiment.evaluation.group != "test",
    }
    if needing := [key for key, needs in keys.items() if needs]:
        try:
            Group.validation(task)
        except DataError as error:
            raise DataError(f"{source}: {needing[0]}: {error}") from None


def measured_design(experiment: Experiment, source: str, board: str = BOARD, data: Path | None = None) -> Design:
    """As ``design_of``, and reads the data where the normalisation has to be measured, as firmware needs its numbers.

    Raises:
        DataError: The data cannot be read.
    """
    if experiment.data.is_unmeasured:
        design_of(experiment, source, board, data)  # its errors come before those of the data
        task = open_task(experiment, data)
        measured = measure(experiment, task, source)
        require_fit(measured.data, task, source)
        experiment = experiment.model_copy(update={"data": measured.data})
    return design_of(experiment, source, board, data)
