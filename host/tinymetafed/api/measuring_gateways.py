"""Measures rounds behind gateways on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..bench import gateway_cost
from ..bench.gateway_cost import GatewayFigures
from ..runs.setup import set_up
from .loaded_experiment import Experiment, data_path
from .number_ranges import require
from .progress import ProgressOption, watching

MAX_GATEWAYS, MAX_BOARDS = 64, 1000  # processes of this machine, and boards of each


def bench_gateways(
    experiment: Experiment,
    *,
    gateways: int = 4,
    boards: int = 8,
    forms: Sequence[str] = ("forward", "pre-summed"),
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> list[GatewayFigures]:
    """Trains an experiment on native boards behind gateways on this machine, and compares with a simulation.

    Args:
        experiment: The experiment; all of its rounds are trained.
        gateways: Number of gateways.
        boards: Native boards of each.
        forms: Values of ``strategy.gateways`` to measure.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        Bytes, times and weights of each form.

    Raises:
        UsageError: A number is not possible. BenchError: There are fewer than two rounds, or something does not start.
        Error: SpecError, BuildError, LinkError; Flower is not installed.
    """
    require("--gateways", gateways, 1, MAX_GATEWAYS)
    require("--boards", boards, 1, MAX_BOARDS)
    found = []
    with watching(progress) as observer:
        for form in forms:
            strategy = experiment.spec.strategy.model_copy(update={"gateways": form})
            strategy.check(experiment.source)
            spec = experiment.spec.model_copy(update={"strategy": strategy})
            setup = set_up(spec, experiment.source, data_path(spec.task, data))
            found.append(gateway_cost.measure(setup, gateways, boards, observer))
    return found
