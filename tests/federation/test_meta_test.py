"""Meta-test figures: means, confidence, spread and curves over samples, and the collapse that a mean can hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from small_runs import manifest, sine

from tinymetafed.federation.clients import Adapted
from tinymetafed.federation.meta_test import MetaTest, _is_constant, confidence, d_curve, mean, shots
from tinymetafed.federation.result import Evaluation
from tinymetafed.learn.metric import Metric
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import HELD_OUT, Floats, Samples
from tinymetafed.learn.tasks.sine import Sine
from tinymetafed_codegen.spec import OmniglotTask, TaskShapes


def meta_test(after: list[float], constant: int) -> MetaTest:
    return MetaTest(Metric.MSE, [4.0] * len(after), after, constant, len(after))


def evaluation(test: MetaTest) -> Evaluation:
    return test.evaluation(trained=7, bytes_down=100, bytes_up=50, seconds=0.5)


@pytest.mark.parametrize(("constant", "collapsed"), [(0, False), (2, False), (3, True), (4, True)])
def test_most_networks_constant_is_a_collapse(constant: int, collapsed: bool) -> None:
    assert meta_test([1.0] * 4, constant).collapsed is collapsed


def test_the_summary_is_the_tasks() -> None:
    summary = evaluation(meta_test([1.0, 2.0, 6.0], 0))
    assert (summary.metric, summary.n_tasks, summary.before, summary.after) == ("mse", 3, 4.0, 3.0)
    assert summary.per_task == ((4.0, 1.0), (4.0, 2.0), (4.0, 6.0))
    assert summary.after_ci95 == pytest.approx(4.30265273 * math.sqrt(7) / math.sqrt(3))


def test_confidence_of_one_task_is_no_figure() -> None:
    assert confidence([3.0]) is None
    assert confidence([1.0, 1.0]) == 0.0


def test_the_interval_is_students_however_many_tasks_there_are() -> None:
    for n, t in ((22, 2.07961384), (200, 1.97195654)):
        scores = [0.0, 1.0] * (n // 2)
        assert confidence(scores) == pytest.approx(t * np.std(scores, ddof=1) / math.sqrt(n))


def test_a_network_that_diverged_has_no_score_and_spoils_the_mean() -> None:
    summary = evaluation(meta_test([1.0, math.inf], 0))
    assert summary.per_task == ((4.0, 1.0), (4.0, None))
    assert (summary.before, summary.after, summary.after_ci95) == (4.0, None, None)
    assert mean([1.0, 3.0]) == 2.0 and mean([1.0, None]) is None


def test_a_summary_gives_its_meta_test_back() -> None:
    test = meta_test([1.0, math.inf, 2.0], 1)
    assert MetaTest.of(evaluation(test)) == test


def test_the_spread_is_that_of_clients() -> None:
    after = [float(i) for i in range(9, -1, -1)] + [math.inf]  # 9 to 0, then one that diverged
    spread = meta_test(after, 0).spread(Sine(1))
    assert spread.percentiles == {"10": 1.0, "25": 2.0, "50": 5.0, "75": 8.0, "90": 9.0}
    assert (spread.best.client, spread.best.after) == (9, 0.0)
    assert (spread.worst.client, spread.worst.after) == (10, None)
    assert spread.best.task == Sine(1).describe(HELD_OUT + 9)
    right = MetaTest(Metric.ACCURACY, [0.2, 0.2], [0.5, 1.0], 0, 2).spread(Sine(1))
    assert (right.best.client, right.worst.client) == (1, 0)


class Answers:
    """Clients whose error after adaptation is 1 over the number of samples, whoever they are."""

    traffic, devices = None, ()

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []

    def train(self, *_: Any) -> Any:
        raise AssertionError("a test trains nobody")

    def adapt(self, weights: Floats, clients: Sequence[int], count: int, on_client: Callable[[], None]) -> list[Adapted]:
        self.asked.append((list(clients), count))
        tests = [TASK.test_samples(client, 0) for client in clients]
        return [Adapted(c, t, t.targets + 2, t.targets + np.float32(count**-0.5)) for c, t in zip(clients, tests, strict=True)]


def test_a_curve_has_every_number_of_samples_once() -> None:
    experiment, clients = sine("task.adapt=6"), Answers()
    final = MetaTest(Metric.MSE, [4.0, 4.0], [0.5, 0.25], 0, 2)
    strategy = open_strategy(experiment, manifest(experiment))
    curve = d_curve(clients, strategy, TASK, np.zeros(3, np.float32), final, lambda: None)  # type: ignore[arg-type]
    assert curve.d == (0, 1, 2, 4, 6, 8, 16, 32)
    assert curve.mean == pytest.approx([4, 1, 1 / 2, 1 / 4, 0.375, 1 / 8, 1 / 16, 1 / 32], rel=1e-5)
    assert curve.ci95[4] == confidence([0.5, 0.25]) and (curve.n_tasks, curve.n_clients) == (2, 2)
    assert clients.asked == [([HELD_OUT, HELD_OUT + 1], d) for d in (1, 2, 4, 8, 16, 32)]  # held out; 6 is known already


class Characters:
    """Of a task with five classes of 16 drawings, what the question needs."""

    spec, adapt_limit = OmniglotTask(kind="omniglot", ways=5), 80


def test_curves_go_as_far_as_the_data() -> None:
    assert shots(Characters(), 40) == [1, 2, 4, 8, 16]  # type: ignore[arg-type]
    assert shots(Characters(), 15) == [1, 2, 3, 4, 8, 16]  # type: ignore[arg-type]


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

    shapes = TaskShapes((1,), 3, "softmax_cross_entropy")


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
