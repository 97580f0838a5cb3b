"""Samples that change in every pass: the same bits for bytes in parts as for floats, in split steps and after losses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import Fault
from reference import run
from test_sample_parts import EXPERIMENT, SCALE, SHAPE, Board, built

from tinymetafed_codegen import boards, spec
from tinymetafed_codegen.design import Design, design

CHANGING = {"augment": {"shift": 2, "adaptation": False}, "predict": {"average": 5}}


def designed(**board: Any) -> Design:
    """The model on a board that takes samples in parts."""
    small = dataclasses.replace(boards.load("native"), receive_window=256)
    return design(spec.parse(EXPERIMENT | CHANGING | {"board": board}, "test"), small, "test")


@pytest.fixture(scope="module")
def reading_bytes(tmp_path_factory: pytest.TempPathFactory) -> Board:
    made = designed()
    assert made.reads_bytes
    return Board(built(made, tmp_path_factory.mktemp("bytes")), made)


def test_bytes_change_as_floats_do_wherever_they_wait(reading_bytes: Board, tmp_path: Path) -> None:
    floats = designed(split_steps=True).reading_floats()
    assert not floats.reads_bytes
    board = Board(built(floats, tmp_path), floats)
    expected = reading_bytes.train()
    assert board.train() == board.train(as_floats=True) == expected

    line = reading_bytes.line
    line.seed(1)
    line.faults, line.rate = (Fault.DROP, Fault.TWICE, Fault.CUT), 0.05
    try:
        assert reading_bytes.train() == expected and line.happened > 5
    finally:
        line.faults = ()


def test_a_prediction_is_the_mean_of_those_of_an_input_and_its_moves(reading_bytes: Board) -> None:
    board, made = reading_bytes, designed()
    board.begin()
    board.finish()
    found = board.session.predict(board.levels, 3, SCALE)
    assert board.session.predict(board.levels, 3, SCALE).tobytes() == found.tobytes()
    assert np.ptp(found, axis=0).min() > 1e-3

    weights = board.session.fetch(0, board.manifest.n_parameters).astype(np.float64)
    around = np.pad(board.levels, ((0, 0), (1, 1), (1, 1), (0, 0))) * SCALE
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]  # where each view begins
    rows, columns, _ = SHAPE
    for levels, mean in zip(around, found, strict=True):
        views = [levels[down : down + rows, right : right + columns] for down, right in moves]
        expected = np.mean([run(made.graph, weights, made.weights, view)[0] for view in views], axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-3, atol=1e-4)
