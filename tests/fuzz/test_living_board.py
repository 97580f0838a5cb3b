"""A board that learns, predicts and is reset at random keeps the host's bits, its statistics and the names of its classes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from fuzzer import STREAMED
from living_board import Board, built

from tinymetafed.devices.board_files import STORAGE_VARIABLE
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import Samples
from tinymetafed.learn.weights import initial
from tinymetafed.runs.exported_weights import learning_phase, trained
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.wire.class_names import decode
from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.protocol import Program, Status

STEPS = int(os.environ.get("TINYMETAFED_LIVING_STEPS", "500"))  # learned or predicted samples, and resets
SAVE_EVERY = 4
NAMES = ("wet", "dry", "très sec")
FEATURES, CLASSES = 20, 3


def small_flash(save_every: int) -> Design:
    """A small model on a native board whose slots have room for two saves, so that they are begun often."""
    experiment = spec.parse(STREAMED | {"board": {"store": True, "save_every": save_every}}, "test")
    native = boards.load("native")
    assert native.storage is not None
    storage = dataclasses.replace(native.storage, page_bytes=1024, write_bytes=4, pages=12)
    board = dataclasses.replace(native, storage=storage)
    return design_graph(experiment, board, graph.build(experiment.model, "test"), "test")


def names(session: Session) -> tuple[str, ...]:
    found = session.look()
    assert found is not None and found.state in (StoreState.EMPTY, StoreState.READY)
    return decode(found.names)


def test_ten_thousand_steps_and_resets_have_the_hosts_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_flash(SAVE_EVERY)
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path / "flash"))
    board = Board(built(made, tmp_path), CLASSES)
    strategy, n, store = open_strategy(made.experiment, made.manifest), made.manifest.n_parameters, made.manifest.store
    assert store is not None
    session = board.session()
    assert session.recall(1).state == StoreState.EMPTY and session.inspect() is None and names(session) == ()
    session.configure(Program.TRAIN, strategy.training_recipe())
    session.load(session.next_token(), strategy.download(initial(made.manifest, 1, "glorot")[: strategy.n_global]))
    session.name_bytes = store.name_bytes
    report = session.keep(NAMES)
    assert (report.state, report.saves) == (StoreState.READY, 1) and session.keep(NAMES) == report

    board.reset()  # which ends the host's round

    kernels, phase = open_kernels(made, 1), learning_phase(strategy)
    random = np.random.default_rng(7)
    weights = saved = session.fetch(0, n)
    learned = kept = saves = resets = 0
    for step in range(STEPS):
        features, label = random.normal(0, 1, FEATURES).astype(np.float32), int(random.integers(0, CLASSES))
        sample = Samples(features[None], np.array([[label]], np.float32))
        status, (outputs,), _, after = trained(kernels, weights, phase, sample)
        assert status == Status.OK
        assert board.predict(features).tobytes() == outputs.tobytes(), f"step {step} predicts other bits than the host"
        if (what := random.integers(0, 10)) < 6:
            board.learn(features, label)
            weights, learned = after, learned + 1
            if learned % SAVE_EVERY == 0:
                saved, kept, saves = weights, learned, saves + 1
        elif what == 6:
            assert board.calls.board_save() == Status.OK
            saves += learned > kept  # nothing is written that is saved already
            saved, kept = weights, learned
        elif what < 9:
            board.reset()
            weights, learned, resets = saved, kept, resets + 1
        else:
            session = board.session()
            asked = session.inspect()
            assert names(session) == NAMES and session.fetch(0, n).tobytes() == weights.tobytes()
            assert learned == board.calls.board_learned() == (0 if asked is None else asked.learned)
    report = board.session().recall(1)
    # This model keeps local weights too, so that each save after learning has two records.
    assert report.state == StoreState.READY and report.saves == 1 + 2 * saves
    assert resets > STEPS / 10 and saves > STEPS / 10 and report.erases > saves / 2
