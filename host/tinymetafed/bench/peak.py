"""The most multiply-adds that a core of this machine does per second without fused ones, to compare kernels with."""

from __future__ import annotations

import ctypes
import time

from tinymetafed_codegen.files import locked
from tinymetafed_codegen.host_library import SHARED, shared_library
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.toolchain import build_root, compiler_flags

from ..simulation.vector_units import VectorUnit

_ROUNDS = 100_000  # of a measurement; about a quarter of a millisecond


class Peak:
    """Repeated measurements of the highest rate of a vector unit; ``best``: multiply-adds per microsecond so far."""

    def __init__(self, unit: VectorUnit) -> None:
        """Compiles the measured loop. Raises BuildError."""
        tree, folder = root() / "firmware", build_root() / "peak"
        sources = [tree / "bench" / "peak.cpp"]
        headers = [tree / "sim" / "lanes.hpp", *sorted((tree / "core" / "kernels").glob("*.hpp"))]
        include = [f"-I{tree / 'core'}", f"-I{tree / 'sim'}"]
        command = ["g++", *compiler_flags(), *include, "-O2", *unit.flags, f"-DTMF_LANES={unit.lanes}", "-Wno-psabi", *SHARED]
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            library = shared_library(
                folder / unit.name, [*command, *map(str, sources)], [*sources, *headers], "the loop of the highest rate"
            )
        self._loop = ctypes.CDLL(str(library)).multiply_adds
        self._loop.restype = ctypes.c_uint64
        self.best = 0.0

    def once(self) -> None:
        """Measures once, by processor time."""
        result = ctypes.c_float()
        began = time.process_time()
        done = self._loop(ctypes.c_uint32(_ROUNDS), ctypes.byref(result))
        self.best = max(self.best, done / (1e6 * (time.process_time() - began)))
