"""First layers that read bytes have the bits of those that read floats, with as many float registers as any board has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from compiled_model import HERE

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags


@pytest.mark.parametrize("registers", [0, 32])
def test_bytes_have_the_bits_of_floats(registers: int, tmp_path: Path) -> None:
    (tmp_path / "board.hpp").write_text(
        f"namespace tmf::board {{ constexpr int kFloatRegisters = {registers}; }}\n", encoding="utf-8"
    )
    program = tmp_path / "bytes"
    command = ["g++", *compiler_flags(), "-O0", "-g0", f"-I{tmp_path}", f"-I{find('firmware') / 'core'}"]
    subprocess.run([*command, str(HERE / "windows_of_bytes.cpp"), "-o", str(program)], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "28 shapes\n"
