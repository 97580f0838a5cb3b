"""A run's rounds and meta-tests as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runs.run_data import RunData


@dataclass(frozen=True)
class History:
    """A run's rounds and meta-tests as arrays.

    One entry per round: ``round``; ``alpha``, the server's learning rate; ``update_norm``, the Euclidean norm of the weights'
    change; ``bytes_down`` and ``bytes_up`` on the wire, framing and retries included, without samples; ``bytes_samples``,
    streamed samples and their answers; ``seconds``; ``late``, how many clients were not done when the round ended. One entry
    per meta-test: ``evaluated_after``, the rounds trained before it; ``before`` and ``after``, the mean score of unseen clients
    before and after adaptation in ``metric`` (NaN if a model diverged).
    """

    round: NDArray[np.int64]
    alpha: NDArray[np.float64]
    update_norm: NDArray[np.float64]
    bytes_down: NDArray[np.int64]
    bytes_up: NDArray[np.int64]
    bytes_samples: NDArray[np.int64]
    seconds: NDArray[np.float64]
    late: NDArray[np.int64]
    evaluated_after: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    metric: str

    @classmethod
    def of(cls, run: RunData) -> History:
        """The rounds and meta-tests of a run so far."""
        rounds, tests = run.rounds, run.evaluations

        def ints(values: Iterator[int]) -> NDArray[np.int64]:
            return np.array([*values], np.int64)

        def floats(values: Iterator[float | None]) -> NDArray[np.float64]:
            return np.array([np.nan if value is None else value for value in values], np.float64)

        return cls(
            round=ints(entry.round for entry in rounds),
            alpha=floats(entry.alpha for entry in rounds),
            update_norm=floats(entry.update_norm for entry in rounds),
            bytes_down=ints(entry.bytes_down for entry in rounds),
            bytes_up=ints(entry.bytes_up for entry in rounds),
            bytes_samples=ints(entry.bytes_samples for entry in rounds),
            seconds=floats(entry.seconds for entry in rounds),
            late=ints(len(entry.late or ()) for entry in rounds),
            evaluated_after=ints(test.round for test in tests),
            before=floats(test.before for test in tests),
            after=floats(test.after for test in tests),
            metric=tests[-1].metric if tests else "",
        )
