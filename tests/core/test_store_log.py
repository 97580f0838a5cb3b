"""The store on simulated flash: power cuts at every program and erase, foreign contents, full and worn flash."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from core_harness import CORE, SANITIZERS, write_protocol_header

from tinymetafed_codegen.toolchain import compiler_flags

UNIT_TESTS = CORE.parents[1] / "tests" / "firmware"  # has the simulated flash
HARNESS = Path(__file__).with_name("store_harness.cpp")


def built(folder: Path, instead: Sequence[tuple[str, str]] = ()) -> subprocess.CompletedProcess[str]:
    """Builds and runs the harness, under the sanitizers unless ``instead`` replaces texts of log.hpp by others."""
    write_protocol_header(folder)
    if instead:
        text = (CORE / "store" / "log.hpp").read_text()
        for was, becomes in instead:
            assert text.count(was) == 1
            text = text.replace(was, becomes)
        (folder / "store").mkdir()
        (folder / "store" / "log.hpp").write_text(text)
    checked = ("-g1", "-O1", *SANITIZERS) if not instead else ("-O0",)
    flags = (*compiler_flags(), *checked, f"-I{folder}", f"-I{CORE}", f"-I{UNIT_TESTS}")
    program = folder / "harness"
    subprocess.run(["g++", *flags, str(HARNESS), str(CORE / "crc32.cpp"), "-o", str(program)], check=True)
    return subprocess.run([program], capture_output=True, text=True, check=False)


def test_a_power_cut_at_any_program_or_erase_leaves_the_old_or_the_new_records(tmp_path: Path) -> None:
    done = built(tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    tried = re.findall(r"unit (\d+): (\d+) saves, (\d+) erases, (\d+) cuts: (\d+) old, (\d+) new", done.stdout)
    assert [(int(unit), int(saves)) for unit, saves, *_ in tried] == [(4, 240), (1, 20), (16, 40), (4, 60), (8, 40)]
    for _, saves, erases, cuts, old, new in tried:
        assert int(cuts) == int(old) + int(new) > 3 * 4 * int(saves)
        assert int(new) >= int(saves)  # at least the cut after the last byte of each save
        assert int(erases) > 9


BEGIN = "    if (!begin(slot)) return false;\n"
RECORDS = "    uint32_t moved["


# The order of writes is what makes the store safe.
def test_the_test_finds_a_store_that_writes_the_header_first(tmp_path: Path) -> None:
    done = built(tmp_path, [(BEGIN, ""), (RECORDS, BEGIN + RECORDS)])
    assert done.returncode != 0 and "FAILED: after a cut the records are the old or the new ones" in done.stdout
