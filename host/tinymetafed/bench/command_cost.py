"""Processor time of commands that should answer at once, measured in processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.design import Design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import load
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..runs.setup import measured_design
from . import BenchError

REPEATS = 3  # the fastest counts, because other load only makes it slower
BOARD = "native"


@dataclass(frozen=True)
class CommandCost:
    """Seconds of processor time: of ``--help``, of ``doctor``, and of a build of firmware of which nothing has changed."""

    help_seconds: float
    doctor_seconds: float
    unchanged_build_seconds: float


def measure(observer: Observer) -> CommandCost:
    """Measures them. Raises BuildError, SpecError or BenchError."""
    observer.stage("commands of the host", 3)
    design = measured_design(load(find("examples/sine.toml")), "sine", BOARD)
    build_firmware(design, BOARD)
    with temporary_folder("bench") as folder:
        help_seconds = _command(folder, "--help")
        observer.advance()
        doctor_seconds = _command(folder, "doctor")
        observer.advance()
    unchanged = min(_build(design) for _ in range(REPEATS))
    observer.advance()
    return CommandCost(help_seconds, doctor_seconds, unchanged)


def spent() -> float:
    """Processor time of this process and of those that it has waited for, in seconds."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def own_and_others() -> tuple[float, float]:
    """Processor time of this process, and of those that it has waited for, in seconds."""
    own = time.process_time()
    return own, spent() - own


def _command(folder: Path, argument: str) -> float:
    """Processor time of the fastest run of a command, whatever it finds on this machine."""
    times = []
    for _ in range(REPEATS):
        began = spent()
        done = subprocess.run(
            [sys.executable, "-m", "tinymetafed", argument], cwd=folder, capture_output=True, text=True, check=False
        )
        if not done.stdout:
            raise BenchError(f"tinymetafed {argument} has ended with exit code {done.returncode}: {done.stderr.strip()}")
        times.append(spent() - began)
    return min(times)


def _build(design: Design) -> float:
    began = spent()
    build_firmware(design, BOARD)
    return spent() - began
