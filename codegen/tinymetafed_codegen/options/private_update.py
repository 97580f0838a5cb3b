"""The integers of private updates: the grid that a device rounds to, the bound on their norm, and the table of its noise.

A device scales its update down to the norm ``privacy.clip``, rounds each entry at random to a multiple of one power of two, and
adds discrete Gaussian noise (Canonne, Kamath, Steinke 2020). The sum of the noise of all devices of a round is what counts
(Kairouz, Liu, Steinke 2021): each device adds 1 / √devices of it. Bound and noise are integers, so no rounding of floats
weakens them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from itertools import accumulate, pairwise

from ..board.board_facts import Board
from ..section import ValueType
from ..spec import Experiment, SpecError

VERSION = 1  # raise it when the same experiment would send other updates
TAIL = 9  # noise ends at this many standard deviations
THRESHOLD_BITS = 63  # of a random word that chooses a magnitude; one more bit chooses the sign
# By dtype of the values: least standard deviation of the noise in steps of the grid, and largest integer that it carries
# exactly. A finer grid costs a longer table, of TAIL times up to twice the standard deviation.
_GRIDS: dict[ValueType, tuple[int, int]] = {"i8": (5, 127), "f16": (20, 2047), "f32": (20, 2047)}
_F16_EXPONENTS = range(-24, 6)  # a multiple of 2^-24 up to 2047 times this power of two is a float16
_EXPONENTS = range(-100, 100)
_CONTEXT = Context(prec=60)


@dataclass(frozen=True)
class PrivateUpdateFacts:
    """The integers of one experiment; lengths are in steps of the grid.

    ``entries``: of an update. ``devices``: that share the noise of a round. ``exponent``: a step is a change of 2^exponent.
    ``sigma``: standard deviation of the noise that one device adds to an entry. ``tail``: its largest magnitude. ``clip``:
    largest norm before rounding. ``largest``: largest magnitude of a rounded entry. ``square``: largest sum of their squares.
    """

    entries: int
    devices: int
    exponent: int
    sigma: float
    tail: int
    clip: float
    largest: int
    square: int

    @property
    def step(self) -> float:
        """The change of a weight that an integer of 1 stands for."""
        return 2.0**self.exponent

    def multiplier(self, devices: int) -> float:
        """Standard deviation of the noise in a sum of ``devices`` updates, divided by the largest norm of one."""
        return self.sigma * math.sqrt(devices / self.square)

    @property
    def table_bytes(self) -> int:
        """Flash of the table of the noise."""
        return 8 * self.tail

    def thresholds(self) -> list[int]:
        """The noise as a table: entry j is the probability of a magnitude up to j, times 2^THRESHOLD_BITS."""
        with localcontext(_CONTEXT):
            sums = list(accumulate(self._weights(self.tail)))
            return [int((each / sums[-1] * 2**THRESHOLD_BITS).to_integral_value()) for each in sums[:-1]]

    @property
    def distance(self) -> float:
        """Total variation distance between the noise of one entry, as the table gives it, and the discrete Gaussian."""
        ends = [0, *self.thresholds(), 2**THRESHOLD_BITS]
        with localcontext(_CONTEXT):
            weights = self._weights(2 * self.tail)  # what lies beyond is less than any digit here
            total = sum(weights)
            found = [Decimal(high - low) / 2**THRESHOLD_BITS for low, high in pairwise(ends)] + [Decimal(0)] * self.tail
            return float(sum(abs(a - weight / total) for a, weight in zip(found, weights, strict=True)) / 2)

    def _weights(self, largest: int) -> list[Decimal]:
        """Unscaled probabilities of the magnitudes 0 to ``largest``, to be computed in _CONTEXT."""
        double_variance = 2 * Decimal(self.sigma) * Decimal(self.sigma)
        return [(-Decimal(j * j) / double_variance).exp() * (1 if j == 0 else 2) for j in range(largest + 1)]


def facts(experiment: Experiment, n_global: int, source: str = "experiment") -> PrivateUpdateFacts | None:
    """The integers of an experiment with [privacy]; None for any other.

    Args:
        experiment: The complete experiment.
        n_global: Number of global weights.
        source: The experiment's name in errors.

    Raises:
        SpecError: The grid does not fit the dtype of the uplink.

    Source: Kairouz, Liu, Steinke 2021, The Distributed Discrete Gaussian Mechanism, Algorithm 1 (bound after rounding).
    """
    clip, noise = experiment.privacy.clip, experiment.privacy.noise
    if clip is None or noise is None:
        return None
    uplink, devices = experiment.strategy.uplink, experiment.run.devices_per_round
    entries = experiment.strategy.entries(n_global)
    least, limit = _GRIDS[uplink]
    share = noise * clip / math.sqrt(devices)
    exponent = math.frexp(share / least)[1] - 1
    if exponent not in (_F16_EXPONENTS if uplink == "f16" else _EXPONENTS):
        raise SpecError(
            f"{source}: privacy.noise * privacy.clip / sqrt(run.devices_per_round) = {share:.3g} is the noise of a device, too "
            f"{'small' if exponent < 0 else 'large'} for strategy.uplink = '{uplink}'; set strategy.uplink = 'i8'"
        )
    sigma, scaled = math.ldexp(share, -exponent), math.ldexp(clip, -exponent)
    tail = math.ceil(TAIL * sigma)
    # The bound is kept by rounding again; the chance that one rounding keeps it is at least 1 - e^-0.5.
    root = math.sqrt(entries)
    square = min((scaled + root) ** 2, scaled * scaled + entries / 4 + scaled + root / 2)
    return PrivateUpdateFacts(entries, devices, exponent, sigma, tail, scaled, limit - tail, math.floor(square))


def description(experiment: Experiment, n_global: int) -> list[str | int | float | None] | None:
    """What the model's hash covers of [privacy]; None for updates that are not private."""
    found = facts(experiment, n_global)
    if found is None:
        return None
    own = experiment.strategy
    return [VERSION, own.uplink, found.entries, found.exponent, found.sigma, found.clip, experiment.privacy.public_seed]


def require_entropy(experiment: Experiment, board: Board, source: str) -> None:
    """Raises SpecError for private updates on a board that has no secret random numbers for its noise."""
    privacy = experiment.privacy
    if privacy.is_private and privacy.public_seed is None and board.entropy is None:
        raise SpecError(
            f"{source}: privacy.noise, but board '{board.name}' has no source of random numbers; add 'entropy' to "
            f"{board.file}, as docs/boards.md describes, or choose another board"
        )
