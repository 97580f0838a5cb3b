"""The simulation marks and lists the entries with the highest priorities as sorting would, wherever its search begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

_CHECKED = ["-O1", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def test_the_highest_are_those_of_sorting(tmp_path: Path) -> None:
    program, source = tmp_path / "highest", Path(__file__).with_name("highest.cpp")
    command = ["g++", *compiler_flags(), *_CHECKED, f"-I{find('firmware') / 'sim'}", str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" selections\n") and int(done.stdout.split()[0]) > 10_000
