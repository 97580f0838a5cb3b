"""Log-mel spectrograms as boards make them: their C++, compiled for this machine, so that all bits are equal."""

from __future__ import annotations

import ctypes
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.files import locked, write_if_changed
from tinymetafed_codegen.host_library import SHARED, shared_library
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.options.log_mel_cpp import log_mel_header
from tinymetafed_codegen.options.log_mel_facts import FULL_SCALE, LogMelFacts
from tinymetafed_codegen.toolchain import build_root, compiler_flags, require_tools

from . import Bytes
from .log_mel import Waveform

_BOARD = "native"
_COMMAND = "tinymetafed"  # named as their origin in the generated files
_FIRST = 8  # sounds of a recording for which there is memory at first


def microphone_samples(sound: Waveform) -> NDArray[np.int16]:
    """A waveform between -1 and 1 as a microphone's samples of 16 bits, int16 [samples]."""
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


class BoardLogMel:
    """The front end of one experiment; compiled when it is first used."""

    def __init__(self, facts: LogMelFacts) -> None:
        self.facts = facts

    def spectrograms(self, sound: Waveform) -> Bytes:
        """The spectrograms of all sounds in a recording.

        Args:
            sound: Waveform between -1 and 1 at the rate of the facts, float64 [samples]; rounded to 16 bits.

        Returns:
            uint8 [sounds, bands, frames]; no sound where all is below the floor.

        Raises:
            BuildError: The C++ cannot be compiled.
        """
        samples = microphone_samples(sound)
        room = _FIRST
        while True:
            levels = np.empty((room, self.facts.bands, self.facts.frames), np.uint8)
            count: int = self._function(samples.ctypes.data, samples.size, levels.ctypes.data, room)
            if count <= room:
                return levels[:count]
            room = count

    @cached_property
    def library(self) -> Path:
        """The compiled library; its name depends on all that the bits depend on. Raises BuildError."""
        require_tools(boards.load(_BOARD))
        firmware = root() / "firmware"
        header = log_mel_header(self.facts, _COMMAND)
        folder = build_root() / "log_mel" / hashlib.sha256(header.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        source = firmware / "sim" / "spectrograms.cpp"
        with locked(folder / "lock"):
            write_if_changed(folder / "log_mel_facts.hpp", header)
            command = ["g++", *compiler_flags(), f"-I{folder}", f"-I{firmware / 'core'}", "-O2", "-g0", *SHARED, str(source)]
            core = [firmware / "core" / "math.hpp", *sorted((firmware / "core" / "sound").iterdir())]
            files = [source, folder / "log_mel_facts.hpp", *core]
            return shared_library(folder / "spectrograms", command, files, "the log-mel front end")

    @cached_property
    def _function(self) -> ctypes._NamedFuncPointer:
        function = ctypes.CDLL(str(self.library)).spectrograms
        function.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]
        function.restype = ctypes.c_uint32
        return function
