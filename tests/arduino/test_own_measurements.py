"""The measurements of real boards compile for their chips, against stand-ins of the vendors' headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from small_runs import sine

from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

HERE = Path(__file__).parent


@pytest.mark.parametrize(("name", "compiler"), [("nano33ble", "arm-none-eabi-g++"), ("esp32dev", "g++")])
def test_measurements_compile(name: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    board, firmware = boards.load(name), find("firmware")
    emit.write(design(sine("board.measures=true", "board.store=true"), board, "test"), tmp_path, "pytest")
    flags = board.machine_flags if compiler != "g++" else ()
    folders = (tmp_path, firmware / "core", firmware / "app", firmware / "port" / "arduino", HERE / name)
    files = [firmware / "port" / name / "measures.cpp", firmware / "core" / "device.cpp"]
    command = [compiler, *flags, *compiler_flags(), *(f"-I{each}" for each in folders), "-fsyntax-only", "-pedantic-errors"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_board_whose_port_cannot_measure_is_refused(own_boards: Path) -> None:
    file = own_boards / "native.json"
    file.write_text(file.read_text().replace('    "measures": true,\n', ""))
    with pytest.raises(Error, match="the port of board 'native' cannot measure; write measures"):
        design(sine("board.measures=true"), boards.load("native"), "test")
