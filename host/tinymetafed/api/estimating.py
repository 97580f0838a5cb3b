"""Estimates: time, energy and flash wear of a real board, computed and not measured."""

from __future__ import annotations

from ..learn.strategies import open_strategy
from ..runs import daily
from ..runs.daily import Cost as Cost
from ..runs.daily import DailyEstimate as DailyEstimate
from ..runs.daily import Day as Day
from ..runs.setup import design_of
from .loaded_experiment import Experiment
from .number_ranges import require


def estimate_day(
    experiment: Experiment, board: str, day: Day | None = None, *, counted_bytes: float | None = None
) -> DailyEstimate:
    """Estimates time, energy and flash writes of a real board: of a round, a learned sample, a prediction and a day.

    Args:
        experiment: An experiment from ``load``; with ``board.store``, what the store writes is included.
        board: A real board's name.
        day: What the board does in a day; None for 24 rounds, 100 learned samples and 1,440 predictions.
        counted_bytes: Bytes of a round that a run has counted, as in ``run.result.estimate.bytes``; None to compute them.

    Returns:
        The estimate, whose ``basis`` says what it leaves out.

    Raises:
        UsageError: A number of the day is below 0, or the board has no figures to estimate from.
        Error: BoardError, SpecError.
    """
    if day is not None:
        require("--rounds", day.rounds, 0)
        require("--learned", day.learned, 0)
        require("--predictions", day.predictions, 0)
    made = design_of(experiment.spec, experiment.source, board)
    strategy = open_strategy(made.experiment, made.manifest)
    return daily.daily(made.board, made.graph, made.manifest, strategy, day or Day(), counted_bytes)
