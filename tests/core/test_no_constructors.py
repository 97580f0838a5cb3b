"""Firmware with a sensor has no constructor that runs before main: a sketch's own objects may be constructed in any order."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags


@pytest.mark.parametrize("name", ["activity.toml", "keywords.toml"])
def test_the_device_needs_no_constructor(tmp_path: Path, name: str) -> None:
    made = design_of(spec.load(find("examples/sensors") / name), name, "nano33ble")
    for header, text in emit.headers(made, "pytest").items():
        (tmp_path / header).write_text(text)
    firmware, compiled = find("firmware"), tmp_path / "device.o"
    flags = [*compiler_flags(), "-O0", f"-I{tmp_path}", f"-I{firmware / 'core'}"]
    subprocess.run(["g++", *flags, "-c", str(firmware / "core" / "device.cpp"), "-o", str(compiled)], check=True)
    sections = subprocess.run(["objdump", "-h", str(compiled)], capture_output=True, text=True, check=True).stdout
    assert ".bss" in sections and ".init_array" not in sections and ".ctors" not in sections
