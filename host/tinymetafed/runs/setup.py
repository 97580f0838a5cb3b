"""An experiment made ready to run: its design, its data, its strategy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.spec import Experiment

from ..learn.strategies import Strategy, open_strategy
from ..learn.tasks import Task
from ..learn.tasks.registry import open_task

BOARD = "native"  # whose manifest stands for the model before it is known where clients are


@dataclass(frozen=True)
class Setup:
    """An experiment with all that its rounds need, made once per run. ``data``: where its data are, None: the usual place."""

    design: Design
    task: Task
    strategy: Strategy
    data: Path | None

    @property
    def experiment(self) -> Experiment:
        """The complete experiment."""
        return self.design.experiment

    @property
    def source(self) -> str:
        """What errors call the experiment, its file for instance."""
        return self.design.source


def design_of(experiment: Experiment, source: str, board: str = BOARD) -> Design:
    """The experiment's model on a board.

    Args:
        experiment: The complete experiment.
        source: What errors call it, its file for instance; boards of the project that it lies in come before ours.
        board: The board's name.

    Raises SpecError, BudgetError, BoardError. Warns of board files that cannot be used.
    """
    known = boards.around(source)
    return design(experiment, known.load(board), source, known)


def set_up(experiment: Experiment, source: str, data: Path | None) -> Setup:
    """Designs the model, reads the data and opens the strategy.

    Args:
        experiment: The complete experiment.
        source: What errors call it, its file for instance.
        data: Where the task's data are, where not in the usual place.

    Raises SpecError, BudgetError, DataError.
    """
    designed = design_of(experiment, source)
    task = open_task(experiment, data)
    return Setup(designed, task, open_strategy(experiment, designed.manifest), data and data.resolve())
