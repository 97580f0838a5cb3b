"""A board that learns, predicts and is reset at random keeps the host's bits, its statistics and the names of its classes."""

from __future__ import annotations

import _ctypes
import ctypes
import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clocks import FakeClock
from fuzzer import STREAMED

from tinymetafed.devices.board_files import STORAGE_VARIABLE
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import Samples
from tinymetafed.learn.weights import initial
from tinymetafed.runs.exported_weights import learning_phase, trained
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.wire.class_names import decode
from tinymetafed_codegen import boards, emit, graph, spec
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.optional_messages import StoreState
from tinymetafed_codegen.protocol import Program, Status
from tinymetafed_codegen.toolchain import compiler_flags

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


def built(made: Design, folder: Path) -> Path:
    """Compiles the board's program as one unit."""
    emit.write(made, folder, "pytest")
    firmware = find("firmware")
    units = [*sorted((firmware / "core").glob("*.cpp")), firmware / "core/store/log.cpp", firmware / "port/native/storage.cpp"]
    units += [firmware / "app/source_streamed.cpp", Path(__file__).with_name("living_board.cpp")]
    (folder / "whole.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
    library = folder / "board.so"
    flags = [*compiler_flags(), "-O1", "-g0", "-fno-gnu-unique", "-shared", "-fPIC", f"-I{folder}", f"-I{firmware / 'core'}"]
    subprocess.run(["g++", *flags, str(folder / "whole.cpp"), "-o", str(library)], check=True)
    return library


class Board:
    """The board, and the line to it."""

    name, baud = "living", 1_000_000_000

    def __init__(self, library: Path) -> None:
        self._library = str(library)
        self._buffer = ctypes.create_string_buffer(1 << 12)
        self.clock = FakeClock()
        self.start()

    def start(self) -> None:
        self.calls = ctypes.CDLL(self._library)
        self.calls.board_poll.restype = ctypes.c_bool
        self.calls.board_sent.restype = ctypes.c_size_t
        self.calls.board_start()

    def reset(self) -> None:
        _ctypes.dlclose(self.calls._handle)  # its memory is gone
        self.start()

    def write(self, data: bytes) -> None:
        self.calls.board_receive(data, ctypes.c_size_t(len(data)))

    def read(self, timeout: float) -> bytes:
        while self.calls.board_poll():
            pass
        size = self.calls.board_sent(self._buffer)
        if not size:
            self.clock.sleep(timeout)
        return self._buffer.raw[:size]

    def close(self) -> None:
        pass

    def predict(self, features: np.ndarray) -> np.ndarray:
        scores = np.zeros(CLASSES, np.float32)
        assert self.calls.board_predict(features.ctypes, scores.ctypes) == Status.OK
        return scores

    def learn(self, features: np.ndarray, label: int) -> None:
        assert self.calls.board_learn(features.ctypes, label) == Status.OK

    def session(self) -> Session:
        """A new host, which does not begin a round."""
        session = Session(self, clock=self.clock)
        session.hello()
        return session


def names(session: Session) -> tuple[str, ...]:
    found = session.look()
    assert found is not None and found.state in (StoreState.EMPTY, StoreState.READY)
    return decode(found.names)


def test_ten_thousand_steps_and_resets_have_the_hosts_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small_flash(SAVE_EVERY)
    monkeypatch.setenv(STORAGE_VARIABLE, str(tmp_path / "flash"))
    board = Board(built(made, tmp_path))
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
