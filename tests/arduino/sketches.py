"""Libraries for sketches, and sketches compiled with them for this machine, with the stand-in for an Arduino core."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import tinymetafed as tmf

HERE = Path(__file__).parent
FLAGS = ["-Wall", "-Wextra", "-Werror", "-g0"]


def write_library(experiment: tmf.Experiment, board: str, folder: Path) -> Path:
    tmf.codegen(experiment, board, folder, library=True)
    return folder


def units(library: Path) -> list[str]:
    return [str(path) for path in sorted((library / "src").rglob("*.cpp"))]


def compile_sketch(library: Path, board: str, sketch: Path, *more: str) -> Path:
    """Compiles as PlatformIO does: the library with its own flags, the sketch with the Arduino core's older language."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    flags = json.loads((library / "library.json").read_text())["build"]["flags"]
    objects = []
    for name, language, source in [
        *((f"{at}.o", flags, unit) for at, unit in enumerate(units(library))),
        ("sketch.o", ["-std=gnu++11", "-x", "c++"], str(sketch)),
        ("core.o", ["-std=gnu++17"], str(HERE / "core.cpp")),
    ]:
        objects.append(str(library / name))
        includes = [f"-I{library / 'src'}", f"-I{HERE / board}", "-include", "Arduino.h"]
        run(["g++", "-O0", *FLAGS, *more, *language, *includes, "-c", source, "-o", objects[-1]])
    program = library / "program"
    run(["g++", *more, *objects, "-pthread", "-o", str(program)])
    return program


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
