"""The paired t test and Holm's correction give the values of published examples and of an independent computation."""

from __future__ import annotations

import pytest

from tinymetafed.learn.paired_test import holm, p_value


def test_p_of_a_paired_t_test() -> None:
    """Student's own data on sleep (1908): ten patients, t = 4.06, p = 0.00283."""
    extra = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert p_value(extra) == pytest.approx(0.002833, abs=1e-6)
    assert p_value([-each for each in extra]) == p_value(extra)
    assert p_value([1.0]) is None and p_value([0.0, 0.0]) == 1 and p_value([0.5, 0.5]) == 0


def test_holm_multiplies_by_the_number_of_tests_left_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []
