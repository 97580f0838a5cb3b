"""A delta holds the entries that were asked for, as far as the host can know which."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tinymetafed.devices.client_program import Job, federate
from tinymetafed.learn.codecs import coded_delta, delta
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta
from tinymetafed_codegen.protocol import Dtype, Phase, Program, Recipe, SampleSet, Selection, Variant

ENDS = (40, 50, 100)
VALUES = np.random.default_rng(5).normal(size=100).astype(np.float32)
VALUES[:40] *= 10  # so that the largest of all are in the first layer


def session(select: object) -> SimpleNamespace:
    """A session whose device selects its entries like this."""
    chunks = delta.encode(VALUES, 20, Dtype.F32, 90, token=1, select=select)  # type: ignore[arg-type]
    calls = dict.fromkeys(("load", "train", "await_done"), lambda *_: None)
    return SimpleNamespace(name="board", next_token=lambda: 1, pull=lambda token, count: chunks, **calls)


def train(selection: Selection, select: object) -> delta.Sparse:
    phase = Phase(SampleSet.QUERY, Variant.GLOBAL, 1, 1, 0.1, 0.0)
    recipe = Recipe((phase,), 20, Dtype.F32, selection)
    task = SimpleNamespace(on_device=lambda sample_set: True)
    job = Job(Program.TRAIN, recipe, 1, 2, 3)
    return federate(session(select), task, job, [], VALUES.size, ENDS).delta  # type: ignore[arg-type]


def by_layer(values: np.ndarray, k: int) -> np.ndarray:
    return delta.select_by_layer(values, k, ENDS)


def random(values: np.ndarray, k: int) -> np.ndarray:
    return delta.select_random(values, k, 1, 2, 3)


@pytest.mark.parametrize(
    ("selection", "select"), [(Selection.GLOBAL, delta.select_top), (Selection.LAYER, by_layer), (Selection.RANDOM, random)]
)
def test_what_was_asked_for_is_accepted(selection: Selection, select: object) -> None:
    assert train(selection, select).indices.size == 20


@pytest.mark.parametrize(
    ("selection", "select", "words"),
    [
        (Selection.LAYER, delta.select_top, r"its layers have \[20, 0, 0\] entries, .* asks for \[7, 3, 10\]"),
        (Selection.RANDOM, by_layer, "its entries are not those of strategy.selection = 'random'"),
    ],
)
def test_another_selection_is_refused(selection: Selection, select: object, words: str) -> None:
    with pytest.raises(delta.DeltaError, match=words):
        train(selection, select)


def test_a_coded_update_that_says_more_than_it_should_names_the_board() -> None:
    (message,) = coded_delta.encode(VALUES, 20, Dtype.I8, 90)
    calls = dict.fromkeys(("load", "train", "await_done"), lambda *_: None)
    phase = Phase(SampleSet.QUERY, Variant.GLOBAL, 1, 1, 0.1, 0.0)
    job = Job(Program.TRAIN, Recipe((phase,), 20, Dtype.I8), 1, 2, 3, codes_values=True)
    task = SimpleNamespace(on_device=lambda sample_set: True)

    def trained(sent: CodedDelta) -> delta.Sparse:
        board = SimpleNamespace(name="board", next_token=lambda: 1, pull_coded=lambda token, count: [sent], **calls)
        return federate(board, task, job, [], VALUES.size, ENDS).delta  # type: ignore[arg-type]

    assert np.array_equal(trained(message).indices, delta.select_top(VALUES, 20))
    with pytest.raises(delta.DeltaError, match=r"board: its update is invalid and was discarded: .* bits are used"):
        trained(dataclasses.replace(message, data=message.data + b"\0"))
