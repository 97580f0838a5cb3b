"""Defences against deltas of boards that lie: norms in a fixed order, the bound, the trimmed mean and Krum on sparse deltas."""

from __future__ import annotations

import math
from statistics import median_low

import numpy as np
import pytest

from tinymetafed.learn import aggregate, defence
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import Floats

RANDOM = np.random.default_rng(3)


def sparse(values: dict[int, float]) -> Sparse:
    return Sparse(np.array(list(values), np.int64), np.array(list(values.values()), np.float32))


def dense(values: Floats) -> Sparse:
    return Sparse(np.arange(values.size), values.astype(np.float32))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 1_000, 5_888])
def test_sums_have_one_order_whatever_the_vector_unit(size: int) -> None:
    terms = RANDOM.normal(size=size)

    def by_hand(left: list[float]) -> float:
        if len(left) < 2:
            return sum(left)
        half = (len(left) + 1) // 2
        return by_hand([left[i] + (left[half + i] if half + i < len(left) else 0.0) for i in range(half)])

    assert float(defence.total(terms)) == by_hand(terms.tolist())
    assert defence.total(np.stack([terms, 2 * terms])).tolist() == [by_hand(terms.tolist()), 2 * by_hand(terms.tolist())]


def test_norms_of_the_largest_float32_are_finite() -> None:
    assert defence.norm(np.full(4, 3e38, np.float32)) == pytest.approx(6e38)
    assert defence.norm(np.array([3, 4], np.float32)) == 5


def test_cosines_are_over_the_entries_that_came() -> None:
    direction = np.array([1, 2, 0, -4], np.float32)
    assert defence.cosine(sparse({0: 2, 1: 4}), direction) == pytest.approx(1)
    assert defence.cosine(sparse({3: 9}), direction) == -1
    assert defence.cosine(sparse({2: 5}), direction) == defence.cosine(sparse({0: 0}), direction) == 0


def test_the_running_median_is_that_of_the_latest_norms() -> None:
    weights = np.full(100, 1, np.float32)  # of norm 10
    assert defence.typical([], weights) == defence.typical([900.0] * 4, weights) == 1.0
    norms = RANDOM.uniform(1, 9, 200).tolist()
    assert defence.typical(norms, weights) == median_low(norms[-defence.NORMS :])


@pytest.mark.parametrize("lie", [3e38, 1e6, 0.0])
def test_fewer_than_half_of_the_boards_cannot_move_the_median_out_of_the_honest_norms(lie: float) -> None:
    norms = [lie if at % 5 < 2 else float(RANDOM.uniform(1, 2)) for at in range(200)]
    assert 1 <= defence.typical(norms, np.ones(4, np.float32)) <= 2


def test_a_huge_delta_is_scaled_to_its_share() -> None:
    huge = sparse({1: 3e38, 5: 3e38})
    most = 0.25
    small = defence.scaled(huge, most / defence.norm(huge.values))
    assert defence.norm(small.values) == pytest.approx(most, rel=1e-5)
    assert defence.scaled(huge, 1.0) is huge


def test_the_trimmed_mean_of_dense_deltas_is_that_of_the_paper() -> None:
    deltas = [RANDOM.normal(size=30).astype(np.float32) for _ in range(7)]
    found = defence.trimmed_mean([dense(delta) for delta in deltas], 30, 2)
    middle = np.sort(np.stack(deltas), axis=0)[2:5]
    np.testing.assert_allclose(found.dense(30), middle.mean(axis=0), rtol=1e-5, atol=1e-7)


def test_the_trimmed_mean_takes_the_entries_that_came() -> None:
    """Three of five send entry 0, two send entry 1; a median over all five would be 0 for both."""
    deltas = [sparse({0: 1}), sparse({0: 2, 1: 5}), sparse({0: 100, 1: 5}), sparse({2: 7}), sparse({2: 7})]
    found = defence.trimmed_mean(deltas, 3, 1)
    assert found.indices.tolist() == [0]
    assert found.values.tolist() == [np.float32(2) * np.float32(0.6)]


def test_without_liars_the_trimmed_mean_is_the_mean() -> None:
    deltas = [
        Sparse(np.sort(RANDOM.choice(50, 20, replace=False)), RANDOM.normal(size=20).astype(np.float32)) for _ in range(5)
    ]
    np.testing.assert_allclose(defence.trimmed_mean(deltas, 50, 0).dense(50), aggregate.mean(deltas, 50), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [1e4, -3e38, 3e38])
def test_no_lie_moves_the_trimmed_mean_out_of_the_honest_values(value: float) -> None:
    honest = [RANDOM.normal(size=40).astype(np.float32) for _ in range(5)]
    lies = [np.full(40, value, np.float32)] * 2
    found = defence.trimmed_mean([dense(each) for each in [*honest, *lies]], 40, 2).dense(40)
    assert (found >= np.min(honest, axis=0)).all() and (found <= np.max(honest, axis=0)).all()


@pytest.mark.parametrize("liars", [1, 2, 3])
def test_krum_leaves_out_the_deltas_that_are_far_from_the_others(liars: int) -> None:
    honest = [dense(RANDOM.normal(1, 0.1, 40)) for _ in range(10 - liars)]
    lies = [dense(np.full(40, 3e38))] + [dense(np.full(40, -1.0))] * (liars - 1)
    order = RANDOM.permutation(10)
    deltas = [[*honest, *lies][at] for at in order]
    chosen = defence.krum(deltas, 40, liars)
    assert chosen == [place for place, at in enumerate(order) if at < 10 - liars]


def test_krum_scores_are_those_of_the_paper() -> None:
    """Each score is the sum of squared distances to the n - f - 2 closest others."""
    deltas = [RANDOM.normal(size=6).astype(np.float32) for _ in range(7)]
    scores = [sorted(math.dist(one, other) ** 2 for other in deltas if other is not one) for one in deltas]
    ranked = sorted(range(7), key=lambda i: sum(scores[i][: 7 - 2 - 2]))
    assert defence.krum([dense(delta) for delta in deltas], 6, 2) == sorted(ranked[:5])
