"""A board as a library in this process: its line as a transport, and the functions of its program."""

from __future__ import annotations

import _ctypes
import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clocks import FakeClock

from tinymetafed.devices.link.session import Session
from tinymetafed_codegen import emit
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Status
from tinymetafed_codegen.toolchain import compiler_flags


def built(made: Design, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compiles the board's program as one unit."""
    emit.write(made, folder, "pytest")
    firmware = find("firmware")
    units = sorted((firmware / "core").glob("*.cpp"))
    if made.manifest.store is not None:
        units += [firmware / "core/store/log.cpp", firmware / "port/native/storage.cpp"]
    units += [firmware / f"app/source_{made.manifest.sample_source}.cpp", Path(__file__).with_suffix(".cpp")]
    (folder / "whole.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
    library = folder / "board.so"
    options = [*compiler_flags(), "-O1", "-g0", "-fno-gnu-unique", "-shared", "-fPIC", *flags]
    includes = [f"-I{folder}", f"-I{firmware / 'core'}"]
    subprocess.run(["g++", *options, *includes, str(folder / "whole.cpp"), "-o", str(library)], check=True)
    return library


class Board:
    """The board, and the line to it."""

    name, baud = "living", 1_000_000_000

    def __init__(self, library: Path, classes: int) -> None:
        self._library = str(library)
        self._classes = classes
        self._buffer = ctypes.create_string_buffer(1 << 12)
        self.clock = FakeClock()
        self.start()

    def start(self) -> None:
        self.calls = ctypes.CDLL(self._library)
        self.calls.board_poll.restype = ctypes.c_bool
        self.calls.board_sent.restype = ctypes.c_size_t
        self.calls.board_start()

    def reset(self) -> None:
        self.end()
        self.start()

    def end(self) -> None:
        """Ends the board; its memory is gone."""
        _ctypes.dlclose(self.calls._handle)

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
        scores = np.zeros(self._classes, np.float32)
        assert self.calls.board_predict(features.ctypes, scores.ctypes) == Status.OK
        return scores

    def learn(self, features: np.ndarray, label: int) -> None:
        assert self.calls.board_learn(features.ctypes, label) == Status.OK

    def session(self) -> Session:
        """A new host, which does not begin a round."""
        session = Session(self, clock=self.clock)
        session.hello()
        return session
