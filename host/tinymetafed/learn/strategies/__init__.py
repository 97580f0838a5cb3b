"""How clients learn together: a class per method, and from an experiment's ``strategy.kind`` to its object."""

from __future__ import annotations

import hashlib

from tinymetafed_codegen import own_class
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import MAX_PHASES
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec, SpecError

from .base import Strategy, StrategyError
from .fedsgd import FedSgd
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
    return hashlib.sha256(own_class.file_of(_own(spec.kind)).read_bytes()).hexdigest()


def _check(own: Strategy) -> None:
    """A simulation would run any phases; devices end a program at one without passes, and hold no more than MAX_PHASES."""
    kind, least = own.spec.kind, 1 if own.experiment.run.rounds else 0
    try:
        phases = own.training()
    except StrategyError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
    if not least <= len(phases) <= MAX_PHASES or not all(phase.passes and phase.count for phase in phases):
        raise SpecError(
            f"strategy.kind = '{kind}': training() asks for {len(phases)} phases, of (samples, passes) "
            f"{[(phase.count, phase.passes) for phase in phases]}; expected {least} to {MAX_PHASES}, each of at least one "
            "sample and one pass"
        )


def _own(kind: str) -> type[Strategy]:
    try:
        return own_class.load(kind, Strategy)  # type: ignore[type-abstract]
    except own_class.OwnClassError as error:
        raise SpecError(f"strategy.kind = '{kind}': {error}") from None
