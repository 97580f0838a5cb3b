"""Samples that change in every pass: the same bits for bytes in parts as for floats, in split steps and after losses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import living_board
import numpy as np
import pytest
from in_process import Fault
from reference import run
from test_sample_parts import COUNT, EXPERIMENT, SCALE, SHAPE, Board, built

from tinymetafed.learn.strategies import open_strategy
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.protocol import Program, Status

CHANGING: dict[str, Any] = {
    "task": EXPERIMENT["task"] | {"adapt": COUNT},
    "augment": {"shift": 2},
    "predict": {"average": 5},
    "adaptation": {"local_passes": 1, "full_passes": 2},
}


def designed(**board: Any) -> Design:
    """The model on a board that takes samples in parts."""
    small = dataclasses.replace(boards.load("native"), receive_window=256)
    return design(spec.parse(EXPERIMENT | CHANGING | {"board": board}, "test"), small, "test")


class Floats(Board):
    """A board that reads floats, trains a step in parts and has a program of its own."""

    def __init__(self, folder: Path) -> None:
        self.design = designed(split_steps=True).reading_floats()
        assert not self.design.reads_bytes
        self.program = living_board.Board(living_board.built(self.design, folder, ["-O0"]), 3)
        self.session = self.program.session()
        self.given(self.design.manifest)


@pytest.fixture(scope="module")
def reading_bytes(tmp_path_factory: pytest.TempPathFactory) -> Board:
    made = designed()
    assert made.reads_bytes
    return Board(built(made, tmp_path_factory.mktemp("bytes")), made)


@pytest.fixture(scope="module")
def reading_floats(tmp_path_factory: pytest.TempPathFactory) -> Floats:
    return Floats(tmp_path_factory.mktemp("floats"))


def test_bytes_change_as_floats_do_wherever_they_wait(reading_bytes: Board, reading_floats: Floats) -> None:
    board = reading_floats
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


def test_a_board_that_adapts_by_itself_changes_its_samples_as_for_the_host(reading_floats: Floats) -> None:
    board, program = reading_floats, reading_floats.program
    recipe = open_strategy(board.design.experiment, board.manifest).adaptation_recipe(COUNT)
    passes = sum(phase.passes for phase in recipe.phases)
    samples = board.examples(as_floats=True)[: COUNT * passes]
    board.session.configure(Program.ADAPT, recipe)
    board.token = board.session.next_token()
    board.session.load(board.token, board.weights)
    board.session.train(board.token, Program.ADAPT, 1, 2, 3)
    board.session.stream(board.token, iter(samples))
    expected = board.session.fetch(0, board.manifest.n_parameters)

    def adapted(changed: float = 0.0) -> bytes:
        assert program.calls.board_adapt() == Status.OK
        for sample in samples:
            program.learn(np.ascontiguousarray(sample.inputs + np.float32(changed)), int(sample.targets[0]))
        return board.session.fetch(0, board.manifest.n_parameters).tobytes()

    assert adapted() == adapted() == expected.tobytes() != adapted(0.1)
    after = [board.session.fetch(0, board.manifest.n_parameters)]
    for _ in range(2):  # the same sample twice, which changes in another way each time
        program.learn(np.ascontiguousarray(samples[0].inputs), 0)
        after.append(board.session.fetch(0, board.manifest.n_parameters))
    outputs = program.predict(np.ascontiguousarray(samples[0].inputs))
    assert outputs.tobytes() == board.session.predict(samples[0].inputs[None], 3).tobytes()
    assert np.count_nonzero(after[2] - after[1] != after[1] - after[0]) > 50
