"""Finds the C++ file that makes a task's samples on the board: one in firmware/app, or the user's."""

from __future__ import annotations

from pathlib import Path

from .. import included
from ..spec import Experiment, SpecError

CPP_SUFFIXES = (".cpp", ".cc", ".cxx")


def name(experiment: Experiment) -> str:
    """NAME of the firmware/app/source_NAME.cpp that the firmware is built with."""
    return "own" if own_source(experiment) else experiment.task.sample_source


def own_source(experiment: Experiment) -> Path | None:
    """The user's sample source, which firmware/app/source_own.cpp includes; None where the experiment has none."""
    source = experiment.task.own_source
    return None if source is None else Path(source)


def digest(own: Path) -> str:
    """Hexadecimal SHA-256 over the user's sample source and the files that it includes in quotes.

    Raises:
        SpecError: The file cannot be read or is not a sample source.
    """
    remedy = "task.source names a C++ file that defines tmf::source::on_device() and make(), see firmware/core/source.hpp"
    try:
        content = own.read_bytes()
    except OSError as error:
        raise SpecError(f"{own}: cannot be read ({error.strerror}); {remedy}") from None
    if own.suffix not in CPP_SUFFIXES or not all(name in content for name in (b"on_device", b"make")) or b"\0" in content:
        raise SpecError(f"{own}: not a sample source in C++ ({', '.join(CPP_SUFFIXES)}); {remedy}")
    return included.digest(own)
