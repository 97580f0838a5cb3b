"""How clients learn together: a class per method, and from an experiment's ``strategy.kind`` to its object."""

from __future__ import annotations

from tinymetafed_codegen import own_class
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import MAX_PHASES, WireError
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec, SpecError

from .fedsgd import FedSgd
from .interface import Strategy, StrategyError
from .reptile import FedAvg, Reptile, TinyReptile
from .tinymetafed import TinyMetaFed
from .tinyol import TinyOl

__all__ = [
    "FedAvg",
    "FedSgd",
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
    """The experiment's strategy for a model of this manifest. Raises SpecError for a user's class that is none."""
    spec = experiment.strategy
    if not isinstance(spec, OwnStrategySpec):
        return _KINDS[spec.kind](experiment, manifest)
    own = _own(spec.kind)(experiment, manifest)
    _check(own)
    return own


def code_sha256(experiment: Experiment) -> str:
    """Of the file of a user's own strategy, hexadecimal; empty for ours. Raises SpecError."""
    spec = experiment.strategy
    if not isinstance(spec, OwnStrategySpec):
        return ""
    return own_class.code_sha256(_own(spec.kind))


def _check(own: Strategy) -> None:
    """Refuses, before anything starts, what no device would take."""
    kind, least = own.spec.kind, 1 if own.experiment.run.rounds else 0
    try:
        recipe = own.training_recipe()
        if not least <= len(recipe.phases) <= MAX_PHASES:
            raise SpecError(
                f"strategy.kind = '{kind}': training() asks for {len(recipe.phases)} phases; expected {least} to {MAX_PHASES}"
            )
        recipe.pack()
    except StrategyError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
    except WireError as error:
        raise SpecError(f"strategy.kind = '{kind}': what it asks of a device is none that it can do: {error}") from None


def _own(kind: str) -> type[Strategy]:
    try:
        return own_class.load(kind, Strategy, "tinymetafed.Strategy")  # type: ignore[type-abstract]
    except own_class.OwnClassError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
