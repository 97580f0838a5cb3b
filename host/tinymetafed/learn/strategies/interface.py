"""The base class of strategies: which clients take part, what devices train, and how deltas change the global weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import final

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.messages.level_format import wire_dtype
from tinymetafed_codegen.options import adaptation, secure_sum
from tinymetafed_codegen.protocol import Dtype, Phase, Recipe, SampleSet, Selection, Stream, Variant
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec

from .. import aggregate, prng, schedule, server_optimiser
from ..codecs import downlink
from ..codecs.delta import Sparse
from ..server_optimiser import ServerState
from ..weights import Floats

_AT_ONCE = 512  # numbers of clients that are drawn at once
_MANY = 4096  # numbers, of which sorting finds those that occur twice sooner than a dictionary
_REMEDY = "set strategy.output_clamp = 1.0, or lower strategy.global_learning_rate"


class StrategyError(Error):
    """A strategy cannot continue: training diverged, clients are too few, or a phase is not supported."""


class Diverged(StrategyError):
    """Training diverged: ``what`` happened, and the ``remedy``."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


class Strategy(ABC):
    """Base class of strategies; a subclass defines ``training`` and may override every other method.

    A strategy keeps no state between rounds: every method depends only on the experiment and its arguments, so that a resumed
    run ends in the same weights. A user's own strategy must keep to this too.

    Attributes:
        experiment: The experiment.
        spec: Its [strategy] section.
        options: ``strategy.options`` of a user's own strategy; {} for a built-in one.
        n_global: Number of global weights.
        secure_sum: The integers of secure aggregation, with which ``update`` gets one delta, the mean; None without it.
        kept: Experiment keys that make a device keep a client's state between rounds; if empty, any device serves any client.

    Source: TinyMetaFed, Ren et al., arXiv 2307.06822, Algorithm 1; other methods in the classes that derive from this one.
    """

    def __init__(self, experiment: Experiment, manifest: ModelManifest) -> None:
        """Prepares the strategy of a run.

        Args:
            experiment: The experiment.
            manifest: The manifest of its model, with global tensors and layers.
        """
        self.experiment = experiment
        self.spec = experiment.strategy
        self.options = self.spec.options if isinstance(self.spec, OwnStrategySpec) else {}
        self.n_global = manifest.n_global
        self.layer_ends = manifest.layer_ends
        self.secure_sum = secure_sum.facts(experiment, manifest.n_global)
        self.kept: list[str] = [
            *(["model.local_start = 'kept'"] if manifest.keeps_local else []),
            *(["strategy.error_feedback"] if manifest.error_feedback else []),
        ]
        self._least = len(manifest.layer_ends) if self.selection == Selection.LAYER else 1
        self._tensors = [tensor.size for tensor in manifest.global_tensors]
        self._downloaded: tuple[bytes, list[downlink.Segment]] | None = None  # the latest weights, and how they travel

    @abstractmethod
    def training(self) -> tuple[Phase, ...]:
        """The phases that a device trains in a round.

        Returns:
            One to MAX_PHASES phases, best made with ``phase``; none if ``run.rounds`` is 0.
        """

    def training_recipe(self) -> Recipe:
        """The recipe of a round: the phases of ``training``; number, selection and dtype of the delta entries sent up.

        With secure aggregation the entries travel as integers, whatever ``uplink`` is; until then their values are exact.

        Raises:
            StrategyError: A user's own strategy selects entries by their values, and aggregation is secure.
        """
        if self.secure_sum is None:
            return Recipe(tuple(self.training()), self.top_k, self.uplink, self.selection)
        if self.selection is not Selection.RANDOM:
            raise StrategyError(
                f"privacy.secure_aggregation = true needs a random selection, but strategy.kind = '{self.spec.kind}' has "
                f"selection {self.selection.name}; return Selection.RANDOM"
            )
        exact = self.uplink if self.experiment.privacy.is_private else Dtype.F32
        return Recipe(tuple(self.training()), self.top_k, exact, self.selection)

    def adaptation_recipe(self, count: int) -> Recipe:
        """The recipe of an adaptation, which sends no delta.

        Args:
            count: Number of ADAPT samples, over all classes.

        Returns:
            A recipe with the phases of ``adaptation``.
        """
        return Recipe(tuple(self.adaptation(count)))

    @property
    def top_k(self) -> int:
        """Number of delta entries sent up: ``top_p`` percent of the global weights, at least 1 (1 per layer for LAYER)."""
        return max(self._least, self.spec.entries(self.n_global))

    @property
    def selection(self) -> Selection:
        """How the delta entries to send up are selected."""
        return Selection[self.spec.selection.upper()]

    @property
    def uplink(self) -> Dtype:
        """Dtype of the delta's values on the wire."""
        return wire_dtype(self.spec.uplink)

    def clients(self, round_: int, of: int) -> list[int]:
        """Selects the training clients of a round; the selection depends only on ``run.seed`` and the arguments.

        With [privacy], clients take turns in a random order, so that none takes part, and loses privacy, more often than
        needed: none twice before a new order is drawn, in which fewer than ``run.devices_per_round`` may have been left out.

        Args:
            round_: The round, from 0.
            of: Number of training clients.

        Returns:
            ``run.devices_per_round`` distinct numbers from 0 to ``of`` - 1.

        Raises:
            StrategyError: ``of`` is smaller than ``run.devices_per_round``.
        """
        run = self.experiment.run
        if of < run.devices_per_round:
            raise StrategyError(f"{self.experiment.per_round}, but there are only {of} client(s)")
        if self.experiment.privacy.is_private:
            turns = of // run.devices_per_round
            order = _turns(run.seed, round_ // turns, of)
            first = round_ % turns * run.devices_per_round
            return [int(client) for client in order[first : first + run.devices_per_round]]
        return choose_clients(run.seed, round_, run.devices_per_round, of)

    def adaptation(self, count: int) -> tuple[Phase, ...]:
        """The phases of a held-out client's adaptation: first the local layers, then the whole model.

        Args:
            count: Number of ADAPT samples, over all classes.

        Returns:
            Up to two phases with the passes and learning rates of [adaptation]; phases without passes or samples are left out.
        """
        return adaptation.phases(self.experiment, count)

    def phase(self, variant: Variant, samples: SampleSet, passes: int, rate: float, count: int | None = None) -> Phase:
        """A phase of online SGD with ``strategy.output_clamp``.

        Args:
            variant: The weights to train: LOCAL, GLOBAL or FULL; GRADIENT to compute a gradient without changing weights.
            samples: The sample set.
            passes: Number of passes over the samples.
            rate: Learning rate.
            count: Number of samples, over all classes; None for the task's number.

        Returns:
            The phase.

        Raises:
            StrategyError: The strategy's firmware does not support the variant.
        """
        if variant is Variant.GRADIENT and not self.spec.gradient:
            raise StrategyError(f"firmware for strategy '{self.spec.kind}' has no GRADIENT steps; only 'fedsgd' has them")
        size = self.experiment.task.count(samples) if count is None else count
        return Phase(variant, samples, size, passes, rate, self.spec.output_clamp)

    def download(self, weights: Floats) -> list[downlink.Segment]:
        """Encodes the global weights in the dtype ``strategy.downlink``.

        Args:
            weights: Global weights, float32 [n_global].

        Returns:
            Segments in the order of the weights; one per tensor for int8, because each tensor has its own scale, otherwise one.

        Raises:
            Diverged: A weight is not finite or out of range of the dtype.
        """
        try:
            return downlink.encode(weights, wire_dtype(self.spec.downlink), self._tensors, self.spec.downlink_levels)
        except ValueError as error:
            raise Diverged(f"training diverged: {error}", _REMEDY) from None

    @final
    def downloaded(self, weights: Floats) -> list[downlink.Segment]:
        """``download``, encoded once for the check of a round's weights and for the round after it. Raises Diverged.

        Any thread may call it: an evaluation has other weights than the round beside it.
        """
        content, latest = weights.tobytes(), self._downloaded
        if latest is None or latest[0] != content:
            self._downloaded = latest = content, self.download(weights)
        return latest[1]

    def alpha(self, round_: int) -> np.float32:
        """The server's learning rate α in a round, from the schedule in [strategy].

        Args:
            round_: The round, from 0.

        Returns:
            α, float32.
        """
        return schedule.alpha(self.spec, round_, self.experiment.run.rounds)

    def update(self, weights: Floats, deltas: Sequence[Sparse], round_: int) -> Floats:
        """The server's step: g ← g + α · mean(delta).

        Args:
            weights: Global weights g, float32 [n_global]; they are not modified.
            deltas: Changes of the global weights, one per client, in client order; an entry that was not sent counts as 0.
                With secure aggregation a single one, their mean.
            round_: The round, from 0.

        Returns:
            The new global weights, float32 [n_global].

        Raises:
            Diverged: A new weight is not finite.

        Source: Ren et al., arXiv 2307.06822, Algorithm 1.
        """
        moved = aggregate.move(weights, aggregate.mean(deltas, self.n_global), self.alpha(round_))
        _require_finite(moved, round_, _REMEDY)
        return moved

    def step(self, weights: Floats, deltas: Sequence[Sparse], round_: int, state: ServerState) -> tuple[Floats, ServerState]:
        """The server's step with the optimiser ``strategy.server``: ``update`` for "sgd"; the others keep state.

        Args:
            weights: Global weights, float32 [n_global]; they are not modified.
            deltas: As for ``update``.
            round_: The round, from 0.
            state: What the server kept from the round before.

        Returns:
            The new global weights, and what the server keeps.

        Raises:
            Diverged: A new weight is not finite.
        """
        if self.spec.server == "sgd":
            return self.update(weights, deltas, round_), state
        change = aggregate.mean(deltas, self.n_global)
        moved, state = server_optimiser.step(self.spec, weights, change, self.alpha(round_), state)
        _require_finite(moved, round_, f"lower strategy.alpha_max, or {_REMEDY}")
        return moved, state


def _require_finite(moved: Floats, round_: int, remedy: str) -> None:
    if not np.isfinite(moved).all():
        raise Diverged(f"training diverged: the update of round {round_} makes a weight infinite or NaN", remedy)


def choose_clients(seed: int, round_: int, count: int, of: int) -> list[int]:
    """Draws ``count`` distinct numbers from 0 to ``of`` - 1, in the order of the draws; they depend on the arguments alone."""
    chosen: dict[int, None] = {}  # a dict keeps the order
    attempts = 0
    while (lacking := count - len(chosen)) > 0:
        # As many draws as are expected to find the rest: each finds a new client with probability (of - found) / of.
        left = of - count + 0.5
        series, first = divmod(attempts, prng.MAX_INDEX)
        drawn = min(max(lacking, round(of * math.log((lacking + left) / left))), prng.MAX_INDEX - first)
        chosen.update(dict.fromkeys(_below(seed, series, round_, of, first, drawn)))
        attempts += drawn
    return list(chosen)[:count]


def _below(seed: int, series: int, round_: int, of: int, first: int, count: int) -> list[int]:
    """Numbers from 0 to ``of`` - 1, each once, of the round's draws ``first`` and following of a series."""
    rounds = max(1, _AT_ONCE // count)
    draw = _kept_rounds if rounds > 1 else _of_rounds  # the many numbers of a single round are not asked for again
    return draw(seed, series, round_ // rounds * rounds, rounds, of, first, count)[round_ % rounds]


def _of_rounds(seed: int, series: int, round_: int, rounds: int, of: int, first: int, count: int) -> list[list[int]]:
    indices = np.arange(first, first + count, dtype=np.uint32) | np.uint32(Stream.CLIENT_CHOICE << prng.INDEX_BITS)
    numbers = np.arange(round_, round_ + rounds, dtype=np.int64).clip(max=prng.LARGEST).astype(np.uint32)
    words, _ = prng.threefry((seed, series), numbers[:, None], indices)
    return [_distinct(row).tolist() for row in words.astype(np.uint64) * np.uint64(of) >> np.uint64(32)]


# Many short rounds are drawn at once, for which NumPy needs as long as for one; a sweep draws those of several seeds in turn.
_kept_rounds = lru_cache(maxsize=64)(_of_rounds)


def _distinct(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each number, below 2^32, at its first place; a few are returned as they are.

    To choose all of a million clients takes 14 million draws, which a dictionary would need five times as long for.
    """
    if numbers.size < _MANY:
        return numbers
    places = np.sort(numbers << np.uint64(32) | np.arange(numbers.size, dtype=np.uint64))
    is_first = np.diff(places >> np.uint64(32), prepend=np.uint64(1 << 32)) != 0
    found: npt.NDArray[np.uint64] = numbers[np.sort(places[is_first] & np.uint64(0xFFFFFFFF))]
    return found


@lru_cache(maxsize=1)  # all rounds in which nobody takes part twice have one order
def _turns(seed: int, number: int, of: int) -> npt.NDArray[np.int64]:
    """The order in which ``of`` clients take turns, each once; ``number``: how often they have done so before."""
    return prng.permutation(seed, 0, number, Stream.CLIENT_CHOICE, of)
