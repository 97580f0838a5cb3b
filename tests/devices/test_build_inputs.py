"""PlatformIO runs only where something has changed that the program is built from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tinymetafed.devices import build_inputs, firmware
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find

SINE = find("examples/sine.toml")
RUN = subprocess.run


class Builds:
    """Counts the runs of PlatformIO, in whose place it writes a program."""

    def __init__(self, folder: Path) -> None:
        self.generated = folder / "generated"
        self.count = 0
        self.fail = False
        self.write(SINE)

    def write(self, experiment: Path) -> None:
        made = design(spec.load(experiment), boards.load("native"), str(experiment))
        emit.write(made, self.generated, "a test")

    def run(self, command: list[str], *, env: dict[str, str] | None = None, **keys: Any) -> subprocess.CompletedProcess[Any]:
        if env is None:  # asks a compiler
            return RUN(command, **keys)
        self.count += 1
        if not self.fail:
            program = Path(env["PLATFORMIO_BUILD_DIR"]) / "native" / "firmware.elf"
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_bytes(b"program %d" % self.count)
        return subprocess.CompletedProcess(command, int(self.fail), b"wrong")

    def built_again(self, deviation: firmware.Deviation = firmware.AS_THE_BOARD_SAYS) -> bool:
        before = self.count
        firmware.build(SINE, boards.load("native"), key="k", deviation=deviation, generated=self.generated)
        return self.count > before


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    counted = Builds(tmp_path)
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path / "build"))
    monkeypatch.setattr(firmware.subprocess, "run", counted.run)
    monkeypatch.setattr(firmware, "_sizes", lambda program, prefix: (1, 1))
    assert counted.built_again()
    assert not counted.built_again()
    return counted


def test_a_changed_model_is_built(builds: Builds, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SINE.read_text().replace("units = 32", "units = 16"))
    builds.write(other)
    assert builds.built_again()
    assert not builds.built_again()


@pytest.mark.parametrize("folder", ["firmware", "boards"])
def test_a_changed_source_or_build_script_is_built(
    builds: Builds, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    monkeypatch.setattr(build_inputs, "find", lambda name: changed if name == folder else find(name))
    for text in ("a", "b"):
        (changed / "new.hpp").write_text(text)
        assert builds.built_again()
        assert not builds.built_again()


@pytest.mark.parametrize("name", ["CPATH", "PLATFORMIO_BUILD_FLAGS"])
def test_a_changed_variable_that_a_compiler_reads_is_built(builds: Builds, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "-DX")
    assert builds.built_again()
    assert not builds.built_again()


def test_another_compiler_builds_again(builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert builds.built_again()


@pytest.mark.parametrize("changed", ["cc1plus", "ld", "libc.a", "libstdc++.a"])
def test_a_part_of_the_compiler_that_has_changed_builds_again(
    builds: Builds, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler says where its parts are; here one is in a folder of the test's."""
    part, real = tmp_path / changed, build_inputs._of_gcc
    part.write_text("first")
    monkeypatch.setattr(
        build_inputs, "_of_gcc", lambda compiler, kind, name: str(part) if name == changed else real(compiler, kind, name)
    )
    assert builds.built_again()
    assert not builds.built_again()
    part.write_text("second one")
    assert builds.built_again()


def test_a_program_that_is_gone_or_changed_is_built(builds: Builds, tmp_path: Path) -> None:
    (program,) = (tmp_path / "build").rglob("firmware.elf")
    program.write_bytes(b"another")
    assert builds.built_again()
    program.unlink()
    assert builds.built_again()


def test_a_build_that_failed_is_repeated(builds: Builds) -> None:
    builds.write(find("examples/presence.toml"))
    builds.fail = True
    with pytest.raises(firmware.BuildError, match="wrong"):
        builds.built_again()
    builds.fail = False
    builds.write(SINE)
    assert builds.built_again()  # the failed build may have replaced parts


@pytest.mark.parametrize("name", ["else where", "o'clock", "a$$b", "#1", "two: three", "[x](y)"])
def test_a_users_source_and_all_that_it_includes_are_built(builds: Builds, name: str, tmp_path: Path) -> None:
    header, own = tmp_path / f"{name}.hpp", tmp_path / "own.cpp"
    header.write_text("// first")
    # Not in quotes, so that the model's hash does not know the file.
    own.write_text(f'#include <{header}>\n#include "source.hpp"\n// defines on_device() and make()\n')
    experiment = tmp_path / "own.toml"
    text = SINE.read_text().replace('kind = "sine"', 'kind = "folder"\npath = "."\nsource = "own.cpp"')
    experiment.write_text(text)
    builds.write(experiment)
    assert builds.built_again()
    assert not builds.built_again()
    for change in (header, own):
        change.write_text(change.read_text() + "\n")
        assert builds.built_again()
        assert not builds.built_again()
    own.write_text(own.read_text() + "#include <nowhere.hpp>\n")  # PlatformIO says what is wrong
    assert builds.built_again()
    assert builds.built_again()
