"""The integers of secure aggregation: how a device rounds the entries of its update, so that their sum fits 16 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..board.board_facts import Board
from ..spec import Experiment, SpecError
from . import private_update

SEAT_BYTES = 65  # of a board's RAM: key and secret of one participant
RAM_BYTES = 124  # besides them: its own keys, the attempt; measured on mps2, rounded up
MODULUS = 1 << 16  # masked entries are numbers modulo this


@dataclass(frozen=True)
class SecureSumFacts:
    """The integers of one experiment.

    ``seats``: most participants of a round. ``levels``: largest magnitude of an integer. ``exponent``: an integer of 1 stands
    for a change of 2^exponent.
    """

    seats: int
    levels: int
    exponent: int

    @property
    def step(self) -> float:
        """The change that an integer of 1 stands for."""
        return 2.0**self.exponent

    @property
    def largest(self) -> float:
        """The largest change that an update reports; larger ones are clipped to it."""
        return self.levels * self.step

    @property
    def ram_bytes(self) -> int:
        """RAM of a board: keys and secrets of all seats, its own private key, and its attempt."""
        return SEAT_BYTES * self.seats + RAM_BYTES


def facts(experiment: Experiment, n_global: int, source: str = "experiment") -> SecureSumFacts | None:
    """The integers of an experiment with privacy.secure_aggregation; None for any other.

    Args:
        experiment: The complete experiment.
        n_global: Number of global weights.
        source: The experiment's name in errors.

    Returns:
        With privacy.clip those of the private updates, otherwise the finest that reach privacy.largest_change.

    Raises:
        SpecError: The sum of private updates does not fit 16 bits.
    """
    privacy = experiment.privacy
    if not privacy.secure_aggregation:
        return None
    seats = experiment.run.devices_per_round
    levels = (MODULUS // 2 - 1) // seats  # so that no sum leaves the range of a signed number of 16 bits
    private = private_update.facts(experiment, n_global, source)
    if private is not None:
        largest = private.largest + private.tail
        if largest > levels:
            raise SpecError(
                f"{source}: privacy.secure_aggregation: the sum of {seats} private updates with integers up to {largest} does "
                "not fit 16 bits; set strategy.uplink = 'i8', for smaller integers, or lower run.devices_per_round"
            )
        return SecureSumFacts(seats, largest, private.exponent)
    return SecureSumFacts(seats, levels, math.ceil(math.log2(privacy.largest_change / levels)))


def require_entropy(experiment: Experiment, board: Board, source: str) -> None:
    """Raises SpecError for secure aggregation on a board that has no random numbers for its keys."""
    if experiment.privacy.secure_aggregation and board.entropy is None:
        raise SpecError(
            f"{source}: privacy.secure_aggregation = true, but board '{board.name}' has no source of random numbers for its "
            f"keys; add 'entropy' to {board.file}, as docs/boards.md describes, or choose another board"
        )
