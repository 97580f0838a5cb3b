"""The C++ file that makes a task's samples on the board: one of firmware/app's, or the user's own."""

from __future__ import annotations

from pathlib import Path

from . import included
from .spec import Experiment, SpecError

CPP_SUFFIXES = (".cpp", ".cc", ".cxx")


def name(experiment: Experiment) -> str:
    """Which firmware/app/source_NAME.cpp the firmware is built with."""
    return "own" if own_source(experiment) else experiment.task.sample_source


def own_source(experiment: Experiment) -> Path | None:
    """The user's C++ file that makes the samples, which firmware/app/source_own.cpp includes; None without one."""
    source = experiment.task.own_source
    return None if source is None else Path(source)


def digest(own: Path) -> str:
    """Hexadecimal SHA-256 of the user's sample source and of the files beside it that it includes.

    Raises SpecError for a file that cannot be a sample source.
    """
    remedy = "task.source names a C++ file that defines tmf::source::on_device() and make(), see firmware/core/source.hpp"
    try:
        content = own.read_bytes()
    except OSError as error:
        raise SpecError(f"{own}: cannot be read ({error.strerror}); {remedy}") from None
    if own.suffix not in CPP_SUFFIXES or not all(name in content for name in (b"on_device", b"make")) or b"\0" in content:
        raise SpecError(f"{own}: not a sample source in C++ ({', '.join(CPP_SUFFIXES)}); {remedy}")
    return included.digest(own)
