"""The standing of boards: those that lie are set aside, honest ones with unusual data are not, and a resumed run agrees."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from small_runs import sine

from tinymetafed.federation.standing import FEWEST, LATEST, Guard, Measure, Standing, by_board
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import Floats
from tinymetafed_codegen.spec import SharingSpec

N = 400
BOARDS = [f"{board:02x}" for board in range(10)]
Lie = Callable[[Floats], Floats]


def spec(*options: str) -> SharingSpec:
    return sine(*(f"strategy.{option}" for option in options)).strategy


class Run:
    """Rounds of one client each whose weights follow the guarded deltas; board k lies if ``lies`` has it."""

    def __init__(self, chosen: SharingSpec, lies: dict[str, Lie] | None = None, *, own_data: bool = False) -> None:
        self.guard = Guard(chosen, np.zeros(N, np.float32))
        self.weights = np.zeros(N, np.float32)
        self.past: list[list[tuple[str, Measure]]] = []
        self.aside: dict[str, str] = {}
        self._lies = lies or {}
        self._random = np.random.default_rng(5)
        self._way = self._random.normal(size=N) / math.sqrt(N)
        # Boards with data of their own always go their own way too, some of them with three times the step.
        own = self._random.normal(size=(len(BOARDS), N)) / math.sqrt(N)
        self._own = 2 * own * own_data
        self._steps = 1 + 2 * own_data * (np.arange(len(BOARDS)) % 3 == 0)

    def train(self, rounds: int) -> None:
        for _ in range(rounds):
            k = int(self._random.integers(len(BOARDS)))
            noise = self._random.normal(size=N) / math.sqrt(N)
            if BOARDS[k] in self.aside:
                continue
            delta = (self._steps[k] * (0.2 * self._way + noise + self._own[k])).astype(np.float32)
            delta = self._lies.get(BOARDS[k], lambda honest: honest)(delta)
            (left, (measure,), aside) = self.guard.measure(self.weights, [(BOARDS[k], Sparse(np.arange(N), delta))])
            self.weights = self.weights + np.float32(0.1) * left[0].dense(N)
            self.past.append([(BOARDS[k], measure)])
            self.aside |= aside


LIES: dict[str, Lie] = {
    "x10": lambda honest: honest * np.float32(10),
    "sign x10": lambda honest: honest * np.float32(-10),
    "all +1": lambda honest: np.ones(N, np.float32),
    "always the same": lambda honest: np.full(N, np.linalg.norm(honest) / math.sqrt(N), np.float32),
    "one 3e38": lambda honest: np.where(np.arange(N) == 0, np.float32(3e38), honest),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize("liars", [1, 3])
def test_boards_that_lie_are_set_aside_and_no_others(lie: Lie, liars: int) -> None:
    run = Run(spec("defence=bound"), dict.fromkeys(BOARDS[:liars], lie))
    run.train(450)
    assert set(run.aside) == set(BOARDS[:liars])
    assert all("times as long as the median" in why or "in another direction" in why for why in run.aside.values())


@pytest.mark.parametrize("own_data", [False, True])
def test_honest_boards_stay_also_with_data_of_their_own(own_data: bool) -> None:
    run = Run(spec("defence=bound"), own_data=own_data)
    run.train(800)
    assert run.aside == {}


def test_without_trust_boards_are_measured_only() -> None:
    run = Run(spec("defence=bound", "defence_trust=false"), {BOARDS[0]: LIES["x10"]})
    run.train(200)
    assert run.aside == {}
    worst = max(by_board(spec("defence=bound", "defence_trust=false"), run.past), key=lambda each: each.norm_median)
    assert (worst.board, worst.aside) == (BOARDS[0], "") and worst.norm_median > 8
    assert worst.shortened == worst.rounds and worst.left_out == 0


def test_never_is_half_of_the_boards_set_aside() -> None:
    run = Run(spec("defence=bound"), dict.fromkeys(BOARDS[:6], LIES["all +1"]))
    run.train(450)
    assert 2 * len(run.aside) < len(BOARDS)


@pytest.mark.parametrize("stop", [3, FEWEST * 10, 180])
def test_a_resumed_run_goes_on_with_the_same_standing(stop: int) -> None:
    whole, resumed = (Run(spec("defence=bound"), {BOARDS[0]: LIES["always the same"]}) for _ in range(2))
    whole.train(300)
    resumed.train(stop)
    first = np.zeros(N, np.float32)
    resumed.guard = Guard(spec("defence=bound"), first, resumed.past)
    assert resumed.guard.standing.aside == resumed.aside
    resumed.train(300 - stop)
    assert resumed.aside == whole.aside != {}
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    assert resumed.past[-1] == whole.past[-1]


def test_what_a_long_run_remembers_does_not_grow() -> None:
    standing = Standing(trust=True)
    for _ in range(5 * LATEST):
        standing.add([("aa", Measure(1.0, 1.0, 0.1, 1.0))])
    assert len(standing.norms) <= LATEST and len(standing.boards["aa"].latest) <= LATEST


@pytest.mark.parametrize(
    ("options", "left"),
    [(["defence=bound"], [1, 1, 1, 1, 0]), (["defence=bound", "defence_trust=false"], [1, 1, 1, 1, 0.02])],
)
def test_a_delta_far_beyond_the_bound_is_not_used_where_boards_are_trusted(options: list[str], left: list[float]) -> None:
    sizes = zip(BOARDS[:5], [1, 1, 1, 1, 100], strict=True)
    deltas = [(board, Sparse(np.arange(4), np.full(4, size, np.float32))) for board, size in sizes]
    kept, measures, _ = Guard(spec(*options), np.ones(4, np.float32)).measure(np.full(4, 10, np.float32), deltas)
    assert [each.weight for each in measures] == pytest.approx(left)
    assert [float(each.values[0]) for each in kept] == pytest.approx([1, 1, 1, 1, 100 * left[-1]])
