"""The core compiles for the Cortex-M4F without heap, exceptions, RTTI or libm, and stays small."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from core_harness import CORE, UNITS, write_protocol_header

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.toolchain import compiler_flags

BOARD = boards.load("mps2")
COMPILER = f"{BOARD.toolchain_prefix}g++"
ALLOWED = {"memcpy", "memmove", "memset"}  # the only functions of the C library that may be used
USES = """\
// Instantiates the core's templates as the learner does.
#include "delta_codec.hpp"
#include "frame.hpp"
#include "math.hpp"
using namespace tmf;
struct Difference {
  const float *trained, *frozen;
  float operator()(uint32_t i) const { return trained[i] - frozen[i]; }
};
using Encoder = DeltaEncoder<2>;
Status freeze(Encoder& encoder, Difference delta, const uint32_t (&ends)[2], const protocol::Recipe& recipe, const Key& key,
              uint32_t (&histogram)[128]) {
  return encoder.freeze(delta, ends, recipe, key, histogram);
}
Status encode(Encoder& encoder, Difference delta, protocol::Delta& header, uint8_t* data, size_t& size) {
  return encoder.encode(delta, 0, header, data, 512, size);
}
void write(const uint8_t* from, size_t size);
void send(uint8_t* body, size_t size) { send_frame(body, size, write); }
float both(float x) { return tmf::exp(x) + tmf::sin(x); }
"""
pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Object files of the core and of instances of its templates."""
    folder = tmp_path_factory.mktemp("arm")
    write_protocol_header(folder)
    (folder / "uses.cpp").write_text(USES)
    made = []
    for source in [*(CORE / f"{unit}.cpp" for unit in UNITS), folder / "uses.cpp"]:
        target = folder / f"{source.stem}.o"
        command = [COMPILER, *compiler_flags(BOARD.name), "-Os", f"-I{CORE}", f"-I{folder}", "-c", source, "-o", target]
        subprocess.run(command, check=True)
        made.append(target)
    return made


def said_by(tool: str, objects: list[Path]) -> str:
    """Output of a program of the toolchain for the object files."""
    return subprocess.run([f"{BOARD.toolchain_prefix}{tool}", *objects], check=True, capture_output=True, text=True).stdout


def test_the_core_uses_only_memory_functions_of_the_c_library(objects: list[Path]) -> None:
    names: dict[str, set[str]] = {"U": set(), "T": set()}
    for line in said_by("nm", objects).splitlines():
        *_, kind, name = line.split() if len(line.split()) > 1 else ["", "", ""]
        names.setdefault(kind, set()).add(name)
    foreign = {name for name in names["U"] - names["T"] if not name.startswith("_Z")}
    assert foreign <= ALLOWED
    assert not any("Znwj" in name or "exception" in name for name in names["U"])


def test_text_stays_within_its_budget(objects: list[Path]) -> None:
    table = said_by("size", objects)
    sizes = {Path(row.split()[-1]).stem: [int(field) for field in row.split()[:3]] for row in table.splitlines()[1:]}
    assert all(data == bss == 0 for _, data, bss in sizes.values()), sizes
    assert sum(text for text, _, _ in sizes.values()) <= 3072, sizes
