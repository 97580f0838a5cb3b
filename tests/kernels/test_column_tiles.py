"""Tiles of neighbouring pixels cover each row once, whatever its length, kernel, stride and padding."""

from __future__ import annotations

import subprocess
from pathlib import Path

from compiled_model import HERE

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags


def test_tiles_cover_each_pixel_once(tmp_path: Path) -> None:
    (tmp_path / "board.hpp").write_text("namespace tmf::board { constexpr int kFloatRegisters = 32; }\n", encoding="utf-8")
    program = tmp_path / "tiles"
    command = ["g++", *compiler_flags(), "-O0", "-g0", f"-I{tmp_path}", f"-I{find('firmware') / 'core'}"]
    subprocess.run([*command, str(HERE / "column_tiles.cpp"), "-o", str(program)], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed == "136 axes, 327 rows of running tiles\n"
