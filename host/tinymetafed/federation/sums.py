"""Rounds whose updates are added up in whole numbers: by gateways where there are any, else here, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..learn import fixed_sum
from ..learn.codecs.delta import Sparse
from ..learn.fixed_sum import Integers, TooLarge
from ..learn.strategies import Diverged
from ..learn.weights import Floats
from .clients import Served, Trainers


@dataclass(frozen=True)
class Share:
    """A client's part in a round: the number of entries of its update, and the update's digest, "" where nobody has it."""

    entries: int
    digest: str


@runtime_checkable
class SummingTrainers(Trainers, Protocol):
    """Trainers that add up updates before they hand them on."""

    def train_summed(
        self, weights: Floats, clients: Sequence[int], round_: int, exponent: int, boards: Sequence[bytes] | None = None
    ) -> tuple[list[Served[Share]], Integers]:
        """Trains each client for one round.

        Args:
            weights: float32[n_global], as the server holds them.
            clients: Numbers of the clients.
            round_: Number of the round.
            exponent: Of the round's step, see learn/fixed_sum.py.
            boards: As for ``train``.

        Returns:
            The clients' parts, in the order of ``clients``, and the sum of their updates, int64[n_global].

        Raises:
            Error: As ``train``; TooLarge.
        """


def trained_as_sum(
    clients: Trainers,
    weights: Floats,
    chosen: Sequence[int],
    round_: int,
    boards: Sequence[bytes] | None,
    digest: Callable[[Sparse], str],
) -> tuple[list[Served[Share]], Sparse | None]:
    """Trains the clients of a round and adds their updates up.

    Args:
        clients: The clients of the experiment.
        weights: float32[n_global], as the server holds them.
        chosen: Numbers of the round's clients.
        round_: Number of the round.
        boards: As for ``Trainers.train``.
        digest: Of an update.

    Returns:
        The clients' parts, and the mean of the updates that came; None if none did. It does not depend on who added what.

    Raises:
        Error: As ``Trainers.train``; Diverged for a change that no sum holds.
    """
    exponent = fixed_sum.exponent(weights)
    try:
        if isinstance(clients, SummingTrainers):
            served, total = clients.train_summed(weights, chosen, round_, exponent, boards)
        else:
            trained = clients.train(weights, chosen, round_, boards)
            updates = [each.outcome for each in trained if each.outcome is not None]
            total = fixed_sum.total(updates, weights.size, exponent)
            served = [each.of(lambda update: Share(update.indices.size, digest(update))) for each in trained]
    except TooLarge as error:
        raise Diverged(f"training diverged in round {round_}: {error}", "lower strategy.global_learning_rate") from None
    count = sum(each.outcome is not None for each in served)
    return served, fixed_sum.mean(total, exponent, count) if count else None
