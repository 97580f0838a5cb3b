"""Chooses the values of the next trials with optuna's multi-objective TPE (Bergstra et al. 2011; Ozaki et al. 2022)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from .. import TuneError
from ..search_ranges import Choice, Value
from .search_space import TuneFile
from .trial_table import Row, losses

INSTALL = "install it with: pip install 'tinymetafed[tune]'"
_RANDOM = 10  # trials that are drawn at random before the first is modelled


def require() -> None:
    """Raises TuneError if optuna is missing."""
    _optuna()


def proposals(file: TuneFile, known: Sequence[Row], seed: int, count: int) -> list[dict[str, Value]]:
    """The values of the next trials; they depend on the arguments alone.

    Args:
        file: What is searched.
        known: All trials before, with their figures.
        seed: Seed of the search.
        count: Number of trials.

    Returns:
        The values of each trial by key, in the order of ``file.space``.

    Raises:
        TuneError: optuna is missing.
    """
    optuna = _optuna()
    distributions = {key: _distribution(optuna, dimension) for key, dimension in file.space.items()}
    sampler = optuna.samplers.TPESampler(seed=seed + (len(known) << 32), n_startup_trials=_RANDOM, multivariate=False)
    study = optuna.create_study(directions=["minimize"] * len(file.objectives), sampler=sampler)
    for row in known:
        if row.settings.keys() != file.space.keys():  # the experiment as it is, whose values may lie outside
            continue
        figures = losses(row, file.objectives)
        state = optuna.trial.TrialState.FAIL if figures is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(params=dict(row.settings), distributions=distributions, values=figures, state=state)
        )
    return [dict(study.ask(distributions).params) for _ in range(count)]


def _distribution(optuna: Any, dimension: Any) -> Any:
    distributions = optuna.distributions
    if isinstance(dimension, Choice):
        return distributions.CategoricalDistribution(dimension.values)
    low, high = dimension.ends
    if dimension.whole:
        return distributions.IntDistribution(low, high, log=dimension.log)
    return distributions.FloatDistribution(low, high, log=dimension.log)


def _optuna() -> Any:
    """The library, which is imported when it is needed. Raises TuneError if it is missing."""
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise TuneError(f"tune needs the library optuna; {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
