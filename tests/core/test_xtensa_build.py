"""The firmware for the ESP32's instruction set uses hardware float and no fused multiply-add, which rounds only once."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tinymetafed.devices import firmware
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find

FACTS = json.loads(find("boards/esp32isa.json").read_text())["tinymetafed"]
PROCESSOR = next(flag.removeprefix("-mcpu=") for flag in FACTS["assembler_flags"] if flag.startswith("-mcpu="))
DISASSEMBLER = ("llvm-objdump-22", "--disassemble", "--section=.text", "--no-show-raw-insn", f"--mcpu={PROCESSOR}")
FUSED = {"madd.s", "msub.s", "maddn.s"}
LACKING = [tool for tool in boards.missing_tools("esp32isa") if tool.to_build]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(tool.name for tool in LACKING)}")


def mnemonics(program: Path) -> Counter[str]:
    """Number of occurrences of each instruction."""
    listing = subprocess.run([*DISASSEMBLER, program], check=True, capture_output=True, text=True).stdout
    return Counter(re.findall(r"(?m)^ *[0-9a-f]+: *\t([a-z0-9_.]+)", listing))


@pytest.mark.parametrize("experiment", ["sine", "omniglot"])
def test_products_and_sums_are_rounded_separately(experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    found = mnemonics(firmware.build(find(f"examples/{experiment}.toml"), boards.load("esp32isa"), key="k").program)
    assert found["mul.s"] > 10 and found["add.s"] > 10 and found["entry"] > 10
    assert not FUSED & set(found)


def test_the_check_finds_fused_instructions(tmp_path: Path) -> None:
    source, target = tmp_path / "fused.s", tmp_path / "fused.o"
    source.write_text("madd.s f0, f1, f2\nmsub.s f0, f1, f2\n")
    subprocess.run([FACTS["assembler"], *FACTS["assembler_flags"], source, "-o", target], check=True)
    assert mnemonics(target) == {"madd.s": 1, "msub.s": 1}
