"""Measurements on a stand-in: what a real board takes too long to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_runs import manifest, omniglot

from tinymetafed import kernel_cost
from tinymetafed_codegen.protocol import Progress, State


class Slow:
    """A session whose training steps take a third of what the board's counter of ticks holds."""

    step = (1 << 32) // 3

    def next_round(self) -> int:
        return 1

    def load(self, *_: Any) -> None:
        pass

    def train(self, *_: Any) -> None:
        pass

    def stream(self, round: int, samples: list[Any], on_progress: Callable[[Progress], None]) -> None:
        for count in range(1, len(samples) + 1):
            on_progress(Progress(round, State.TRAINING, 0, count, count * self.step % (1 << 32)))


def test_a_counter_of_ticks_that_wraps_loses_none() -> None:
    assert kernel_cost._train(Slow(), manifest(omniglot()), []) == kernel_cost.STEPS * Slow.step  # type: ignore[arg-type]
