"""The most that a core of this machine does without fused multiply-adds, to compare kernels with."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import numpy as np

from tinymetafed_codegen.files import locked
from tinymetafed_codegen.host_library import SHARED, shared_library
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.toolchain import build_root, compiler_flags

from ..simulation.vector_units import VectorUnit

_ROUNDS = 100_000  # of a measurement; about a quarter of a millisecond
_STEPS = 400  # of a measurement of weights
_BLOCK = 32  # weights of a tile, kBlock of peak.cpp
_ALIGNMENT = 16  # floats of a line of a cache


class Peak:
    """Repeated measurements of the highest rate of a vector unit; ``best``: multiply-adds per microsecond so far."""

    def __init__(self, unit: VectorUnit) -> None:
        """Compiles the measured loops. Raises BuildError."""
        tree, folder = root() / "firmware", build_root() / "peak"
        sources = [tree / "bench" / "peak.cpp"]
        headers = [
            *(tree / "sim" / name for name in ("lanes.hpp", "lanes/parts.hpp", "single/runs.hpp")),
            *sorted((tree / "core" / "kernels").glob("*.hpp")),
        ]
        include = [f"-I{tree / 'core'}", f"-I{tree / 'sim'}"]
        command = ["g++", *compiler_flags(), *include, "-O2", *unit.flags, f"-DTMF_LANES={unit.lanes}", "-Wno-psabi", *SHARED]
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            library = shared_library(
                folder / unit.name, [*command, *map(str, sources)], [*sources, *headers], "the loop of the highest rate"
            )
        loaded = ctypes.CDLL(str(library))
        self._loop, self._use_weights = loaded.multiply_adds, loaded.use_weights
        self._loop.restype = ctypes.c_uint64
        self._use_weights.restype = None
        self._lanes = unit.lanes
        self.best = 0.0

    def once(self) -> None:
        """Measures once, by processor time."""
        result = ctypes.c_float()
        began = time.process_time()
        done = self._loop(ctypes.c_uint32(_ROUNDS), ctypes.byref(result))
        self.best = max(self.best, done / (1e6 * (time.process_time() - began)))

    def weights(self, used: int, updated: int, waits: int) -> Weights:
        """A measurement of steps that use some weights, wait for additions, and update the last ones of the weights."""
        return Weights(self._use_weights, self._lanes, used, updated, waits)


class Weights:
    """Repeated measurements of what dense layers do at least: see ``use_weights`` in peak.cpp.

    ``best``: microseconds per lane and step so far.
    """

    def __init__(self, loop: Callable[..., None], lanes: int, used: int, updated: int, waits: int) -> None:
        self._loop = loop
        self._lanes = lanes
        self._counts = [ctypes.c_uint32(-(-count // _BLOCK) * _BLOCK) for count in (used, updated)]
        self._waits = ctypes.c_uint32(waits)
        size = lanes * (self._counts[0].value + _BLOCK)
        memory = np.zeros(size + _ALIGNMENT, np.float32)
        self._numbers = memory[-memory.ctypes.data // memory.itemsize % _ALIGNMENT :][:size]
        self.best = float("inf")

    def once(self) -> None:
        """Measures once, by processor time."""
        result = ctypes.c_float()
        began = time.process_time()
        numbers = ctypes.c_void_p(self._numbers.ctypes.data)
        self._loop(ctypes.c_uint32(_STEPS), *self._counts, self._waits, numbers, ctypes.byref(result))
        self.best = min(self.best, (time.process_time() - began) * 1e6 / _STEPS / self._lanes)
