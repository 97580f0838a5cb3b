"""Builds authenticated firmware as a library and attacks it: ``python tests/fuzz/authenticated_board.py build/attacked``."""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
from pathlib import Path

from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

SOURCE = Path(__file__).with_name("authenticated_board.cpp")
KINDS = (
    "forged",
    "flipped",
    "spliced",
    "replayed",
    "reordered",
    "reflected",
    "of an earlier session",
    "stripped",
    "handshakes",
)


class Report(ctypes.Structure):
    """As in authenticated_board.cpp."""

    _fields_ = (
        ("tried", ctypes.c_uint64 * len(KINDS)),
        ("accepted", ctypes.c_uint64 * len(KINDS)),
        *((name, ctypes.c_uint64) for name in ("honest", "repeated", "sessions", "counted_forged", "counted_replayed")),
    )


def authenticated_sine() -> Design:
    """The sine model on a native board without a store, authenticated."""
    return design(spec.load(find("examples/sine.toml"), ["run.security=authenticated"]), boards.load("native"), "test")


def build(folder: Path) -> Path:
    """Builds the library in ``folder`` as one unit."""
    folder.mkdir(parents=True, exist_ok=True)
    emit.write(authenticated_sine(), folder, "pytest")
    firmware = find("firmware")
    units = [SOURCE, *sorted((firmware / "core").glob("*.cpp")), firmware / "app" / "source_sine.cpp"]
    (folder / "whole.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
    library = folder / "authenticated.so"
    # -fno-gnu-unique: otherwise a model loaded later in this process would use the tables of the first.
    flags = [*compiler_flags(), "-O2", "-g0", "-fno-gnu-unique", "-shared", "-fPIC"]
    includes = [f"-I{folder}", f"-I{firmware / 'core'}", f"-I{SOURCE.parent}"]
    subprocess.run(["g++", *flags, *includes, str(folder / "whole.cpp"), "-o", str(library)], check=True)
    return library


def attack(library: Path, frames: int, seed: int = 1) -> dict[str, dict[str, int] | int]:
    """Attacks with so many frames in a process of its own, which fails if an honest frame has not its right answer."""
    command = [sys.executable, __file__, str(library), "--frames", str(frames), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int] | int] = json.loads(done.stdout)
    return found


def _attacked(library: Path, frames: int, seed: int) -> dict[str, dict[str, int] | int]:
    report = Report()
    ctypes.CDLL(str(library)).attack(ctypes.c_uint64(seed), ctypes.c_uint64(frames), ctypes.byref(report))
    by_kind: dict[str, dict[str, int] | int] = {
        name: dict(zip(KINDS, map(int, getattr(report, name)), strict=True)) for name in ("tried", "accepted")
    }
    return by_kind | {name: int(getattr(report, name)) for name, _ in Report._fields_[2:]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path, help="folder to build in, or a library that is built")
    parser.add_argument("--frames", type=int, default=10_000_000, help="frames of the attacker")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    built = arguments.place if arguments.place.suffix == ".so" else build(arguments.place)
    print(json.dumps(_attacked(built, arguments.frames, arguments.seed), indent=1))
