"""A strategy: who takes part, what a device is told to do, and how its answer moves the global weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Dtype, Phase, Recipe, SampleSet, Selection, Stream, Variant
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec

from .. import aggregate, prng, schedule
from ..codecs import downlink
from ..codecs.delta import Sparse
from ..weights import Floats

_REMEDY = "set strategy.output_clamp = 1.0, or lower strategy.global_learning_rate"


class StrategyError(Error):
    """An update that cannot be used."""


class Strategy(ABC):
    """What a round asks of its devices and makes of their answers; what differs between methods is ``training``.

    Nothing is kept here between rounds: every answer is a function of the experiment and the arguments, so that a run that was
    interrupted goes on to the same weights.
    """

    def __init__(self, experiment: Experiment, manifest: ModelManifest) -> None:
        self.experiment = experiment
        self.spec = experiment.strategy
        # The user's own settings of a class of theirs, strategy.options.
        self.options = self.spec.options if isinstance(self.spec, OwnStrategySpec) else {}
        self.n_global = manifest.n_global
        # What devices keep from one round of a client to its next, as the key that asks for it; none: any device serves any.
        self.kept: list[str] = [
            *(["model.local_start = 'kept'"] if manifest.keeps_local else []),
            *(["strategy.error_feedback"] if manifest.error_feedback else []),
        ]
        self._least = len(manifest.layer_ends) if self.selection == Selection.LAYER else 1
        self._tensors = [tensor.size for tensor in manifest.global_tensors]

    @abstractmethod
    def training(self) -> tuple[Phase, ...]:
        """What a device trains in a round, at most MAX_PHASES phases."""

    def training_recipe(self) -> Recipe:
        """What a device trains in a round, and which entries of its delta travel in which form."""
        return Recipe(tuple(self.training()), self.top_k, self.uplink, self.selection)

    def adaptation_recipe(self, count: int) -> Recipe:
        """What a new client trains on its first ``count`` samples; nothing travels."""
        return Recipe(tuple(self.adaptation(count)))

    @property
    def top_k(self) -> int:
        """Entries of the global part that travel up: P percent, at least one, or one of each layer that has its share."""
        return max(self._least, math.floor(self.n_global * self.spec.top_p / 100 + 0.5))

    @property
    def selection(self) -> Selection:
        """Which entries travel up."""
        return Selection[self.spec.selection.upper()]

    @property
    def uplink(self) -> Dtype:
        """How the delta's values travel."""
        return Dtype[self.spec.uplink.upper()]

    def clients(self, round_: int, of: int) -> list[int]:
        """Distinct meta-training clients of a round out of ``of``, drawn from the run's seed alone.

        Raises StrategyError when there are fewer than ``run.devices_per_round``.
        """
        run = self.experiment.run
        if of < run.devices_per_round:
            raise StrategyError(f"run.devices_per_round = {run.devices_per_round}, but there are only {of} client(s)")
        chosen: dict[int, None] = {}  # in the order of their draws
        attempts = 0
        while lacking := run.devices_per_round - len(chosen):
            words, _ = prng.draw(run.seed, 0, round_, Stream.CLIENT_CHOICE, np.arange(attempts, attempts + lacking))
            attempts += lacking
            chosen.update((word * of >> 32, None) for word in words.tolist())
        return list(chosen)

    def adaptation(self, count: int) -> tuple[Phase, ...]:
        """A new client's few samples: first the layers that stay local alone, then the whole model."""
        spec = self.experiment.adaptation
        phases = (
            self.phase(Variant.LOCAL, SampleSet.ADAPT, spec.local_passes, spec.local_learning_rate, count),
            self.phase(Variant.FULL, SampleSet.ADAPT, spec.full_passes, spec.full_learning_rate, count),
        )
        return tuple(phase for phase in phases if phase.passes and phase.count)

    def phase(self, variant: Variant, samples: SampleSet, passes: int, rate: float, count: int | None = None) -> Phase:
        """Online SGD over ``count`` samples of a set (default: the task's number), its output errors clamped as asked.

        Raises StrategyError for a variant that the firmware of this strategy lacks.
        """
        if variant is Variant.GRADIENT and not self.spec.gradient:
            raise StrategyError(f"firmware for strategy '{self.spec.kind}' has no GRADIENT steps, 'fedsgd' alone has")
        size = self.experiment.task.count(samples) if count is None else count
        return Phase(variant, samples, size, passes, rate, self.spec.output_clamp)

    def download(self, weights: Floats) -> list[downlink.Segment]:
        """The global weights as they travel down. Raises StrategyError when one is too large to."""
        try:
            return downlink.encode(weights, Dtype[self.spec.downlink.upper()], self._tensors)
        except ValueError as error:
            raise StrategyError(f"training diverged: {error}; {_REMEDY}") from None

    def alpha(self, round_: int) -> np.float32:
        """The server's learning rate in a round."""
        return schedule.alpha(self.spec, round_, self.experiment.run.rounds)

    def update(self, weights: Floats, deltas: Sequence[Sparse], round_: int) -> Floats:
        """g ← g + α · mean(delta), deltas in client order. Raises StrategyError when a weight would stop being finite."""
        moved = aggregate.move(weights, aggregate.mean(deltas, self.n_global), self.alpha(round_))
        if not np.isfinite(moved).all():
            raise StrategyError(f"training diverged: the update of round {round_} makes a weight infinite; {_REMEDY}")
        return moved
