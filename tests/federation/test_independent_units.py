"""What is independent among unseen clients: scores by speaker, alphabet, file or client, and the interval over these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_runs import DATA, needs_data

from tinymetafed.federation.clients import Adapted
from tinymetafed.federation.meta_test import Group, MetaTest, by_unit, interval_of
from tinymetafed.learn.cluster_bootstrap import half_width
from tinymetafed.learn.metric import Metric
from tinymetafed.learn.tasks import Task
from tinymetafed.learn.tasks.folder import Client, Folder
from tinymetafed.learn.tasks.keywords import Keywords
from tinymetafed.learn.tasks.omniglot import Omniglot
from tinymetafed.learn.tasks.presence import Presence
from tinymetafed.learn.tasks.sine import Sine
from tinymetafed_codegen.spec import FolderTask, KeywordsTask, OmniglotTask, TaskShapes


def guessed(task: Task, tasks: int, seed: int = 0) -> list[Adapted]:
    """Test clients that answer at random."""
    draws, group, found = np.random.default_rng(seed), Group.test(task), list[Adapted]()
    for t in range(tasks):
        client = group.client(t)
        test = task.test_samples(client, 0)
        outputs = draws.normal(size=(2, len(test), task.output_size)).astype(np.float32)
        found.append(Adapted(client, test, outputs[0], outputs[1]))
    return found


def digits(**keys: Any) -> Keywords:
    return Keywords(KeywordsTask(kind="keywords", **keys), DATA, 1)


def check(task: Task, tasks: int, units: int) -> None:
    """The scores by unit are those of all samples, and add up to the scores by task."""
    adapted = guessed(task, tasks)
    scores = ([task.score(outputs, each.test) for outputs in (each.before, each.after)] for each in adapted)
    found = by_unit(task, adapted, *zip(*scores, strict=True))
    assert len(found) == len({unit.name for unit in found}) == units
    assert sum(unit.share for unit in found) == pytest.approx(1)
    mean = np.mean([task.score(each.after, each.test) for each in adapted])
    assert sum(unit.share * (unit.after or 0) for unit in found) == pytest.approx(mean, rel=1e-5)
    own: dict[str, list[tuple[float, float]]] = {}  # against a plain loop over samples
    for each in adapted:
        names = task.units(each.client)
        for i, name in enumerate(names if len(names) > 1 else [*names] * len(each.test)):
            score = task.metric.score(each.after[i : i + 1], each.test.targets[i : i + 1])
            own.setdefault(name, []).append((score, 1 / len(each.test)))
    for unit in found:
        weights = [weight for _, weight in own[unit.name]]
        assert unit.after == pytest.approx(sum(score * weight for score, weight in own[unit.name]) / sum(weights), rel=1e-5)


def test_waves_and_rooms_are_independent() -> None:
    check(Sine(3), 8, 8)
    check(Presence(3), 8, 8)


def test_splits_of_a_file_are_not() -> None:
    generator = np.random.default_rng(0)
    people = [
        Client(name, generator.random((30, 2), np.float32), (np.arange(30.0) % 2).astype(np.float32)[:, None])
        for name in "abcd"
    ]
    task = Folder(
        FolderTask(kind="folder", path="data"), TaskShapes((2,), 2, "softmax_cross_entropy"), 1, people[:1], people[1:]
    )
    check(task, 9, 2)  # of three held-out files one is for validation


@needs_data
def test_tasks_share_alphabets_and_speakers() -> None:
    task = Omniglot(OmniglotTask(kind="omniglot"), DATA, 1)
    names = {task.describe(Group.test(task).client(t)) for t in range(60)}
    alphabets = {name.partition("/")[0] for text in names for name in text.split(", ")}
    check(task, 60, len(alphabets))
    assert task.unit == "alphabet" and 5 <= len(alphabets) <= 10
    if (DATA / "fsdd_recordings.zip").is_file():
        by_speaker, by_word, ways3 = digits(), digits(split="word"), digits(split="word", ways=3)
        check(by_speaker, 30, 2)
        check(by_word, 30, 1)  # four words are held out, which every task asks for in another order
        check(ways3, 30, 1)
        assert (by_speaker.unit, by_word.unit) == ("speaker", "word set")


def test_few_units_have_a_wider_interval_than_many_tasks_or_none() -> None:
    draws = np.random.default_rng(1)
    of_speaker = draws.normal(0.8, 0.1, 5)
    scores = [float(of_speaker[t % 5] + draws.normal(0, 0.02)) for t in range(100)]
    by_speaker = MetaTest(Metric.ACCURACY, scores, scores, 0, 5)
    each_alone = MetaTest(Metric.ACCURACY, scores, scores, 0, 100)
    assert by_speaker.confidence is not None and each_alone.confidence is not None
    assert by_speaker.confidence > 3 * each_alone.confidence
    units = by_speaker.independent
    assert by_speaker.confidence == interval_of([unit.after for unit in units], units, 100)
    assert by_speaker.confidence == half_width([unit.after or 0 for unit in units], [0.2] * 5)
    two = MetaTest(Metric.ACCURACY, scores, scores, 0, 2)
    assert two.evaluation(1, 0, 0, 0.0).n_independent == 2
    one = MetaTest(Metric.ACCURACY, scores, scores, 0, 1)
    assert one.confidence is None and one.evaluation(1, 0, 0, 0.0).n_independent == 1
    entry = by_speaker.evaluation(1, 0, 0, 0.0)
    assert (entry.n_tasks, entry.n_clients, entry.n_independent, entry.unit) == (100, 5, 5, "client")
    assert MetaTest.of(entry).confidence == entry.after_ci95
