"""Cost of less memory for activations: exact instructions of a training step with each choice of the keys that decide it."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.memory.memory_prices import MemoryPrice, prices
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..runs.setup import measured_design
from . import in_qemu, kernel_cost


@dataclass(frozen=True)
class ActivationCost:
    """A choice of board.memory and model.activations, and the instructions of a training step by variant."""

    price: MemoryPrice
    instructions: dict[str, int]


@dataclass(frozen=True)
class ActivationCosts:
    """The costs of a model on a board: that of the fastest choice first, then those of choices with a smaller arena."""

    board: str
    costs: tuple[ActivationCost, ...]


def activations(experiment: Experiment, source: str, board: str, observer: Observer) -> ActivationCosts:
    """Counts the instructions of a training step with each choice that makes the arena smaller.

    Args:
        experiment: The experiment; its own choice does not matter.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    designed = measured_design(experiment, source)
    in_qemu(board, designed.boards)
    fastest, *others = prices(designed)
    measured = [fastest, *(price for price in others if price.arena_bytes < fastest.arena_bytes)]
    return ActivationCosts(
        board,
        tuple(
            ActivationCost(price, kernel_cost.instructions(_chosen(designed.experiment, price), source, board, observer))
            for price in measured
        ),
    )


def _chosen(experiment: Experiment, price: MemoryPrice) -> Experiment:
    return experiment.model_copy(
        update={
            "board": experiment.board.model_copy(update={"memory": price.memory}),
            "model": experiment.model.model_copy(update={"activations": price.activations}),
        }
    )
