"""Rounds of clients as the compiled kernels take them: of one run, or of several runs in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinymetafed_codegen.protocol import Recipe

from ..learn.tasks import Floats
from .batches import Batch


@dataclass(frozen=True)
class TrainingClients:
    """The clients of one call, with the state that they keep between rounds.

    ``seed``, ``numbers`` and ``round`` are those of the Train message. ``local_weights``, float32 [clients, n_local], and
    ``residuals`` (the part of the deltas that was never sent), float32 [clients, n_global], are None unless clients keep
    them; ``train_round`` reads them and replaces their values.
    """

    seed: int
    numbers: Sequence[int]
    round: int
    local_weights: Floats | None = None
    residuals: Floats | None = None


@dataclass(frozen=True)
class ClientRound:
    """The clients of a run in one of its rounds, and what they train.

    ``global_weights``: float32 [n_global], as every client receives them. ``recipe``: what each client trains and sends.
    ``samples``: for each phase those of all clients. ``clients``: the clients; the state that they keep is updated.
    ``streamed``: whether samples are sent to devices, so that their bytes count.
    """

    global_weights: Floats
    recipe: Recipe
    samples: Sequence[Batch]
    clients: TrainingClients
    streamed: bool = False


@dataclass(frozen=True)
class JoinedRounds:
    """Rounds of several runs as one call passes them: their clients one run after the other.

    ``parts``: the place of each run's clients. Arrays are as in ClientRound and TrainingClients, over all clients; those of a
    single round are its own.
    """

    rounds: Sequence[ClientRound]
    parts: Sequence[slice]
    numbers: Sequence[int]
    samples: Sequence[Batch]
    local_weights: Floats | None
    residuals: Floats | None

    @classmethod
    def of(cls, rounds: Sequence[ClientRound]) -> JoinedRounds:
        """The rounds of one call. Raises ValueError for recipes that differ, or samples of which only some are streamed."""
        clients = [each.clients for each in rounds]
        if len(rounds) == 1:
            own, whole = clients[0], slice(0, len(clients[0].numbers))
            return cls(rounds, [whole], own.numbers, rounds[0].samples, own.local_weights, own.residuals)
        if len({(each.recipe, each.streamed) for each in rounds}) > 1:
            raise ValueError("rounds of one call need equal recipes, and samples that are all streamed or none")
        ends = np.cumsum([0, *(len(each.numbers) for each in clients)]).tolist()
        return cls(
            rounds,
            [slice(begin, end) for begin, end in pairwise(ends)],
            [number for each in clients for number in each.numbers],
            Batch.joined([each.samples for each in rounds]),
            _concatenated([each.local_weights for each in clients]),
            _concatenated([each.residuals for each in clients]),
        )

    def keep_state(self) -> None:
        """Copies the state after the round to the arrays that the rounds were given."""
        if len(self.rounds) == 1:
            return
        for each, part in zip(self.rounds, self.parts, strict=True):
            for joined, own in ((self.local_weights, each.clients.local_weights), (self.residuals, each.clients.residuals)):
                if joined is not None and own is not None:
                    own[:] = joined[part]


def _concatenated(arrays: Sequence[Floats | None]) -> Floats | None:
    given = [array for array in arrays if array is not None]
    return np.concatenate(given) if given else None  # clients of one model keep a state or do not
