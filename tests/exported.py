"""Exported libraries for tests: a small folder of clients, models for it, and the compilers that must take the C++."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find

STRICT = ["-Wall", "-Wextra", "-Werror"]
CLASSES = ("idle", 'say "hi"', "walk")
DENSE = "{op='dense',units=11,activation='relu'},{op='dense',units=3,local=true}"
CONV1D = "{op='conv1d',filters=5,kernel=3,stride=2,activation='relu'},{op='flatten'},{op='dense',units=3,local=true}"
MODELS = {
    "dense": f"[model]\ninput = [30]\nloss = 'softmax_cross_entropy'\nlayers = [{DENSE}]\n",
    "conv1d": f"[model]\ninput = [10, 3]\nloss = 'softmax_cross_entropy'\nlayers = [{CONV1D}]\n",
}


def write_clients(folder: Path) -> None:
    """Five clients of 36 rows of 30 features with a named class each."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(8)
    for client in range(5):
        centre = random.normal(0, 1, (3, 30))
        lines = []
        for row in range(36):
            values = centre[row % 3] + random.normal(0, 0.5, 30)
            label = CLASSES[row % 3].replace('"', '""')
            lines.append(",".join(f"{value:.4f}" for value in values) + f',"{label}"')
        (folder / f"person{client}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_experiment(folder: Path, model: str) -> Path:
    """An experiment of two rounds on these clients, with person4 held out; returns its file."""
    file = folder / f"{model}.toml"
    file.write_text(
        "[task]\nkind = 'folder'\npath = 'people'\nheld_out = ['person4']\nsupport = 6\nquery = 6\nadapt = 12\n"
        f"{MODELS[model]}[strategy]\nkind = 'tinymetafed'\n[run]\nrounds = 2\ndevices_per_round = 2\n"
        "[evaluation]\ntasks = 2\n[adaptation]\nlocal_passes = 2\nfull_passes = 1\n",
        encoding="utf-8",
    )
    return file


def compilers() -> dict[str, list[str]]:
    """The compilers of boards that are installed here, with the flags of a processor; options after them apply to all."""
    isa = boards.load("esp32isa")
    found = {
        "g++": ["g++", "-pedantic"],
        "arm-none-eabi-g++": ["arm-none-eabi-g++", *boards.load("mps2").machine_flags],
        "clang++-22": ["clang++-22", *isa.machine_flags, "-isystem", str(find("boards/platform/freestanding"))],
    }
    features = ["fp", "loop", "mul32", "windowed"]
    found["clang++-22"] += [word for name in features for word in ("-Xclang", "-target-feature", "-Xclang", f"+{name}")]
    return {name: command for name, command in found.items() if shutil.which(name)}


def build(library: Path, program: Path, *, options: tuple[str, ...] = ("-std=c++11", "-O1")) -> Path:
    """Compiles a program with a library's sources; returns the executable."""
    if shutil.which("g++") is None:
        pytest.skip("g++ not installed: the library is compiled")
    output = program.with_suffix(".run")
    sources = [program, *(library / "src").glob("*.cpp")]
    done = subprocess.run(
        ["g++", *STRICT, *options, f"-I{library / 'src'}", *map(str, sources), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output


def printed(program: Path) -> str:
    """What a program prints; it must succeed."""
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


def build_sketch(library: Path, sketch: Path) -> Path:
    """Compiles a sketch for this machine, with the stand-in for Arduino.h."""
    program = sketch.parent / f"{sketch.stem}-sketch.cpp"
    program.write_text(f'#include "Arduino.h"\n#include "{sketch}"\n', encoding="utf-8")
    return build(library, program, options=("-std=gnu++11", f"-I{find('tests/arduino/sketch')}"))
