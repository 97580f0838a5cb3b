"""Paired differences over seeds, and Holm's correction, against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.comparisons import FEWEST, LEVEL, Difference, holm, paired, verdict

P_VALUES = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=7)


def rejected_by_definition(p_values: list[float | None], level: float) -> set[int]:
    """A comparison is rejected if each family of comparisons that contains it has one below level / size: closed testing."""
    made = [i for i, p in enumerate(p_values) if p is not None]
    families = [set(some) for size in range(1, len(made) + 1) for some in itertools.combinations(made, size)]
    by_bonferroni = {frozenset(some) for some in families if min(p_values[i] or 0.0 for i in some) <= level / len(some)}
    return {i for i in made if all(frozenset(some) in by_bonferroni for some in families if i in some)}


@settings(max_examples=60)
@given(P_VALUES, st.floats(0.01, 0.5))
def test_holm_rejects_what_closed_testing_rejects(p_values: list[float | None], level: float) -> None:
    adjusted = holm(p_values)
    assert [p is None for p in adjusted] == [p is None for p in p_values]
    if any(p is not None and abs(p - level) < 1e-9 for p in adjusted):
        return  # rounding decides
    assert {i for i, p in enumerate(adjusted) if p is not None and p <= level} == rejected_by_definition(p_values, level)


@settings(max_examples=40)
@given(P_VALUES, st.randoms())
def test_holm_does_not_depend_on_the_order_and_never_lowers(p_values: list[float | None], random: object) -> None:
    order = list(range(len(p_values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = holm([p_values[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(order))] == holm(p_values)
    assert all(after >= before for before, after in zip(p_values, holm(p_values), strict=True) if before is not None)  # type: ignore[operator]


def test_a_published_example_of_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([None]) == [None]


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9), st.floats(-0.5, 0.5))
def test_the_p_value_is_the_area_of_students_density_beyond_the_mean(apart: list[float], expected: float) -> None:
    values = np.array(apart)
    if values.std() < 1e-3:
        return
    found = paired(dict(enumerate(apart)), dict.fromkeys(range(20), 0.0), expected)
    assert (found.n, found.mean) == (len(apart), pytest.approx(values.mean(), abs=1e-12))
    n, t = len(apart), abs(values.mean() - expected) / (values.std(ddof=1) / math.sqrt(len(apart)))
    x = (np.arange(20_000) + 0.5) * t / 20_000
    scale = math.gamma(n / 2) / (math.sqrt((n - 1) * math.pi) * math.gamma((n - 1) / 2))
    inside = 2 * scale * float(((1 + x**2 / (n - 1)) ** (-n / 2)).sum()) * t / 20_000
    assert found.p == pytest.approx(1 - inside, abs=1e-5)
    plain = paired(dict(enumerate(apart)), dict.fromkeys(range(20), 0.0))
    assert plain.p is not None and plain.ci95 is not None and plain.mean is not None
    assert abs(plain.p - 0.05) < 1e-9 or (plain.p < 0.05) == (abs(plain.mean) > plain.ci95)


def test_only_seeds_of_both_are_paired() -> None:
    assert paired({1: 0.5, 2: 0.7, 3: 0.9}, {2: 0.6, 3: 0.7, 9: 0.1}).mean == pytest.approx(0.15)
    assert paired({1: 0.5}, {2: 0.5}) == Difference(0, None, None, None)
    assert paired({1: 0.5}, {1: 0.25}) == Difference(1, 0.25, None, None)
    assert paired({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}).p == 1 and paired({1: 1.0, 2: 2.0}, {1: 0.0, 2: 1.0}).p == 0
    assert paired({1: 1.0, 2: math.inf}, {1: 1.0, 2: 2.0}).mean is None


def test_few_seeds_decide_nothing() -> None:
    clear = Difference(FEWEST - 1, 0.1, 0.01, 1e-6)
    assert verdict(clear, 1e-6, True) == "undecided: too few seeds (7 of 8)"
    clear = Difference(FEWEST, 0.1, 0.01, 1e-6)
    assert (verdict(clear, 1e-6, True), verdict(clear, 1e-6, False)) == ("better", "worse")
    assert verdict(clear, LEVEL * 1.01, True) == "undecided" == verdict(Difference(9, None, None, None), None, True)
