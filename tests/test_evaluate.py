"""Meta-test figures: means and their confidence, and the collapse that a mean can hide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinymetafed.evaluate import MetaTest, _is_constant, confidence, mean
from tinymetafed.learn.tasks import HELD_OUT, Samples
from tinymetafed.learn.tasks.sine import Sine


def meta_test(after: list[float], constant: int) -> MetaTest:
    return MetaTest("mse", [4.0] * len(after), after, constant)


@pytest.mark.parametrize(("constant", "collapsed"), [(0, False), (2, False), (3, True), (4, True)])
def test_most_networks_constant_is_a_collapse(constant: int, collapsed: bool) -> None:
    assert meta_test([1.0] * 4, constant).collapsed is collapsed


def test_the_summary_is_the_tasks() -> None:
    summary = meta_test([1.0, 2.0, 6.0], 0).summary()
    assert (summary["metric"], summary["n_tasks"], summary["before"], summary["after"]) == ("mse", 3, 4.0, 3.0)
    assert summary["per_task"] == [[4.0, 1.0], [4.0, 2.0], [4.0, 6.0]]
    assert summary["after_ci95"] == pytest.approx(1.96 * math.sqrt(7) / math.sqrt(3))


def test_confidence_of_one_task_is_no_figure() -> None:
    assert confidence([3.0]) is None
    assert confidence([1.0, 1.0]) == 0.0


def test_a_network_that_diverged_has_no_score_and_spoils_the_mean() -> None:
    summary = meta_test([1.0, math.inf], 0).summary()
    assert summary["per_task"] == [[4.0, 1.0], [4.0, None]]
    assert (summary["before"], summary["after"], summary["after_ci95"]) == (4.0, None, None)
    assert mean([1.0, 3.0]) == 2.0 and mean([1.0, None]) is None


TASK = Sine(1)
TEST = TASK.test_samples(HELD_OUT, 0)


@pytest.mark.parametrize(
    ("outputs", "constant"),
    [
        (np.zeros((100, 1), np.float32), True),
        (np.full((100, 1), 2.5, np.float32), True),
        (TEST.targets, False),
        (TEST.targets * 0.01, False),  # shrunk, but it still follows its input
        (TEST.targets * 1e-6 + 1, True),
    ],
    ids=["zero", "offset", "perfect", "shy", "next to nothing"],
)
def test_a_regression_that_ignores_its_input(outputs: np.ndarray, constant: bool) -> None:
    assert _is_constant(TASK, outputs.astype(np.float32), TEST) is constant


class Classes:
    """Of a task, what the question needs."""

    metric = "accuracy"


@pytest.mark.parametrize(
    ("outputs", "constant"),
    [
        ([[0.1, 0.9, 0], [0.2, 0.3, 0.1], [0, 5, 1]], True),
        ([[0.1, 0.9, 0], [0.4, 0.3, 0.1], [0, 5, 1]], False),
    ],
)
def test_a_classifier_that_names_one_class_only(outputs: list[list[float]], constant: bool) -> None:
    test = Samples(np.zeros((3, 1), np.float32), np.array([[0], [1], [2]], np.float32))
    assert _is_constant(Classes(), np.array(outputs, np.float32), test) is constant  # type: ignore[arg-type]
