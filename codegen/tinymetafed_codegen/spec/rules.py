"""Rules over several keys of an experiment."""

from __future__ import annotations

from ..section import SpecError
from . import augment as augment_rules
from . import online
from .coding import check_coding
from .data_rules import check_data
from .experiment import Experiment, TooFewClients
from .privacy_rules import check_privacy, check_secure_aggregation
from .run import check_quorum
from .strategy import StrategySpec

# How many clients of a round must be honest for one that lies, and how many more: see learn/defence.py.
_HONEST = {"trimmed": (1, 1), "krum": (1, 3)}


def check(experiment: Experiment, source: str) -> None:
    """Checks rules over several keys.

    Args:
        experiment: An experiment whose keys are right one by one.
        source: Its name in errors.

    Raises:
        SpecError: Keys do not go together; the text names them.
    """
    task, strategy, run = experiment.task, experiment.strategy, experiment.run
    if strategy.alpha_min > strategy.alpha_max:
        raise SpecError(f"{source}: strategy.alpha_min = {strategy.alpha_min} is above alpha_max = {strategy.alpha_max}")
    if strategy.schedule == "sgdr":
        if strategy.restart_rounds is None:
            raise SpecError(f"{source}: strategy.schedule = 'sgdr' needs strategy.restart_rounds, the rounds of a cycle")
        if run.rounds % strategy.restart_rounds:
            raise SpecError(
                f"{source}: run.rounds = {run.rounds} is not a multiple of strategy.restart_rounds = "
                f"{strategy.restart_rounds}; a run that stops within a cycle ends at a large learning rate"
            )
        lowest = strategy.alpha_max - strategy.alpha_min - (run.rounds // strategy.restart_rounds - 1) * strategy.restart_decay
        if lowest < 0:
            raise SpecError(
                f"{source}: strategy.restart_decay = {strategy.restart_decay} takes the schedule below alpha_min = "
                f"{strategy.alpha_min} before the last of {run.rounds // strategy.restart_rounds} cycles; "
                f"it can be at most (alpha_max - alpha_min) / (cycles - 1)"
            )
    elif strategy.restart_rounds is not None:
        raise SpecError(f"{source}: strategy.restart_rounds works only with strategy.schedule = 'sgdr'")
    strategy.check(source)
    online.check(task, strategy, source)
    check_coding(strategy, experiment.privacy, source)
    _check_defence(strategy, run.devices_per_round, source)
    differ = {
        "task.client_per_board": task.boards_are_clients,
        "strategy.error_feedback": strategy.error_feedback,
        "model.local_start = 'kept'": experiment.model.local_start == "kept",
        "privacy.noise": experiment.privacy.is_private,
    }
    if strategy.audit and (keys := [key for key, chosen in differ.items() if chosen]):
        raise SpecError(
            f"{source}: strategy.audit = {strategy.audit:g} compares what two boards do for one client, but with "
            f"{' and '.join(keys)} honest boards differ; leave strategy.audit out"
        )
    if run.chooses and not experiment.evaluation.every:
        raise SpecError(
            f"{source}: run.keep = 'best' needs evaluation.every, the number of rounds after which weights are compared; set "
            f"evaluation.every = {max(run.rounds // 20, 1)}"
        )
    if task.counts_clients and run.clients is not None:
        raise SpecError(
            f"{source}: run.clients = {run.clients}, but task '{task.kind}' counts its clients: in its data, "
            "or the boards with task.client_per_board; leave run.clients out"
        )
    if run.clients is not None and run.devices_per_round > run.clients:
        raise TooFewClients(
            f"{source}: {experiment.per_round} but there are only run.clients = {run.clients}; set run.devices_per_round = "
            f"{run.clients} or less"
        )
    task.check(source)
    check_data(experiment, source)
    augment_rules.check(
        experiment.augment, experiment.predict, experiment.model.input, source, of_time=experiment.input_is_of_time
    )
    check_privacy(experiment, source)
    check_quorum(run, experiment.privacy, source)
    check_secure_aggregation(experiment, source)


def _check_defence(strategy: StrategySpec, clients: int, source: str) -> None:
    """Raises SpecError if a round has too few clients for its defence."""
    if strategy.defence not in _HONEST:
        return
    per_liar, more = _HONEST[strategy.defence]
    liars = strategy.liars(clients)
    needed = (1 + per_liar) * liars + more
    if clients < needed:
        raise SpecError(
            f"{source}: strategy.defence = '{strategy.defence}' with defence_liars = {strategy.defence_liars:g} expects "
            f"{liars} of the {clients} client(s) of a round to lie and needs {needed} clients for that; raise "
            "run.devices_per_round, or set strategy.defence = 'bound', which works with one"
        )
