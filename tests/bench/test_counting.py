"""Measurements on a stand-in session: a counter of ticks that wraps, which takes too long on a real board."""

from __future__ import annotations

from typing import Any

from small_runs import manifest, omniglot

from tinymetafed.bench import kernel_cost
from tinymetafed_codegen.protocol import Progress, State, Status


class Slow:
    """A session in which one training step takes a third of the range of the board's counter of ticks."""

    step = (1 << 32) // 3

    def next_token(self) -> int:
        return 1

    def load(self, *_: Any) -> None:
        pass

    def train(self, *_: Any) -> None:
        pass

    def sample(self, token: int, step: int, *_: Any) -> Progress:
        return Progress(token, State.TRAINING, Status.OK, step + 1, (step + 1) * self.step % (1 << 32))


def test_a_counter_of_ticks_that_wraps_loses_none() -> None:
    assert kernel_cost._train(Slow(), manifest(omniglot()), []) == [Slow.step] * kernel_cost.STEPS  # type: ignore[arg-type]
