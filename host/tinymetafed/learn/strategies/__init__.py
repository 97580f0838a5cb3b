"""Federated strategies: one class per method, and the strategy of an experiment."""

from __future__ import annotations

import statistics

from tinymetafed_codegen import own_class
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import MAX_PHASES, SampleSet, WireError
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec, SpecError

from .fedsgd import FedSgd
from .interface import Diverged, Strategy, StrategyError
from .own_strategy import OwnStrategy, OwnStrategyError
from .reptile import FedAvg, Reptile, TinyReptile
from .tinymetafed import TinyMetaFed
from .tinyol import TinyOl

__all__ = [
    "Diverged",
    "FedAvg",
    "FedSgd",
    "OwnStrategyError",
    "Reptile",
    "Strategy",
    "StrategyError",
    "TinyMetaFed",
    "TinyOl",
    "TinyReptile",
    "code_sha256",
    "open_strategy",
]

_KINDS: dict[str, type[Strategy]] = {
    "tinymetafed": TinyMetaFed,
    "tinyreptile": TinyReptile,
    "reptile": Reptile,
    "fedavg": FedAvg,
    "fedsgd": FedSgd,
    "tinyol": TinyOl,
}


def open_strategy(experiment: Experiment, manifest: ModelManifest) -> Strategy:
    """Creates the strategy of an experiment.

    Args:
        experiment: The experiment; ``strategy.kind`` names the strategy.
        manifest: The manifest of its model.

    Returns:
        The strategy, with a training recipe that devices accept.

    Raises:
        SpecError: A user's own strategy cannot be loaded, or no device can run its recipe.
        OwnStrategyError: Its code fails.
    """
    spec = experiment.strategy
    if not isinstance(spec, OwnStrategySpec):
        return _KINDS[spec.kind](experiment, manifest)
    chosen = _own(spec.kind)
    if spec.server != "sgd" and chosen.update is not Strategy.update:
        raise SpecError(
            f"strategy.server = '{spec.server}': the class of strategy.kind = '{spec.kind}' defines update(), which replaces "
            "the server's step; leave strategy.server out, or remove the method"
        )
    if spec.pre_sums and chosen.update is not Strategy.update:
        raise SpecError(
            f"strategy.gateways = 'pre-summed': the class of strategy.kind = '{spec.kind}' defines update(), which may look "
            "at single updates; set strategy.gateways = 'forward', or remove the method"
        )
    own = OwnStrategy(experiment, manifest, chosen)
    _check(own)
    return own


def code_sha256(experiment: Experiment) -> str:
    """SHA-256 of the file of a user's own strategy, hexadecimal; "" for a built-in strategy. Raises SpecError."""
    spec = experiment.strategy
    if not isinstance(spec, OwnStrategySpec):
        return ""
    return own_class.code_sha256(_own(spec.kind))


def _check(own: Strategy) -> None:
    """Raises SpecError if no device can run the strategy's training recipe."""
    kind, fewest = own.spec.kind, 1 if own.experiment.run.rounds else 0
    try:
        recipe = own.training_recipe()
        if not fewest <= len(recipe.phases) <= MAX_PHASES:
            raise SpecError(
                f"strategy.kind = '{kind}': training() returns {len(recipe.phases)} phases; expected {fewest} to {MAX_PHASES}"
            )
        recipe.pack()
        trained = [phase.sample_set for phase in recipe.phases for _ in range(phase.passes)]
        if own.experiment.task.online and len(trained) > len(set(trained)):
            raise SpecError(
                f"strategy.kind = '{kind}': training() has several passes over {SampleSet(statistics.mode(trained)).name}, but "
                "with task.online = true a device trains on each sample of a round once; give each set one pass, in one phase"
            )
    except StrategyError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
    except WireError as error:
        raise SpecError(f"strategy.kind = '{kind}': no device can run its training recipe: {error}") from None


def _own(kind: str) -> type[Strategy]:
    try:
        return own_class.load(kind, Strategy, "tinymetafed.Strategy")  # type: ignore[type-abstract]
    except own_class.OwnClassError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
