"""Training that ended in networks that ignore their input: how a run is judged, and what its user is told to do."""

from __future__ import annotations

from collections.abc import Sequence

from tinymetafed_codegen.spec import Experiment

from ..federation.meta_test import Collapsed
from ..federation.result import Evaluation
from ..learn.metric import Metric
from .run_data import RunData


def refuse_collapse(run: RunData) -> None:
    """Raises Collapsed if the final meta-test of a run found networks that ignore their input."""
    if run.evaluations[-1].collapsed:
        raise Collapsed(f"{run.path}: training collapsed: {collapse_found(run.experiment(), run.evaluations)}")


def collapse_found(experiment: Experiment, evaluations: Sequence[Evaluation]) -> str:
    """Says that the last of a run's evaluations found a collapse, and what to do.

    A network that has hardly been trained gives one answer too; an earlier, better score shows that it has lost what it knew.
    """
    last = evaluations[-1]
    which = f"{last.constant} of {last.n_tasks} adapted networks"
    found = f"after {last.round} rounds {which} give the same answer whatever their input"
    better = [entry for entry in evaluations[:-1] if not entry.collapsed and is_better(entry, last)]
    lower = "lower strategy.global_learning_rate or strategy.alpha_max"
    if last.metric == Metric.MSE and not 0 < experiment.strategy.output_clamp <= 1:
        lower = f"set strategy.output_clamp = 1.0, or {lower}"
    if better:
        return f"{found}, and the score fell since round {better[-1].round}; {lower}"
    train_more = "train longer (run.rounds) or raise strategy.global_learning_rate"
    return f"{found}; if training has only begun, {train_more}, otherwise {lower}"


def is_better(one: Evaluation, other: Evaluation) -> bool:
    """Whether one evaluation has the better score after adaptation; a diverged one has the worst."""
    worst = one.metric.worst
    first, second = (worst if entry.after is None else entry.after for entry in (one, other))
    return one.metric.is_better(first, second)
