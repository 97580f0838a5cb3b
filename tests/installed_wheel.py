"""A wheel built from this checkout and installed in an environment of its own, for tests of what a user installs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tinymetafed_codegen.locate import root


@dataclass(frozen=True)
class WheelVenv:
    """A virtual environment with our wheel; the packages that it needs are those of the environment the tests run in.

    ``variables`` are those of its processes: nothing in them leads to the checkout, and their home folder, with the cache
    of builds, is their own.
    """

    folder: Path
    variables: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        """Where the wheel's files are."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder), "platbase": str(self.folder)}))

    def run(self, cwd: Path, *command: object) -> subprocess.CompletedProcess[str]:
        """Runs a program in a folder to its end, whatever that is; those of the environment are found first."""
        words = [str(word) for word in command]
        return subprocess.run(words, cwd=cwd, env=self.variables, capture_output=True, text=True, check=False)

    def tinymetafed(self, cwd: Path, *arguments: object) -> str:
        """What a command of ours prints; it must succeed."""
        done = self.run(cwd, self.folder / "bin" / "tinymetafed", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def install(folder: Path) -> WheelVenv:
    """Builds the wheel and installs it below an empty folder, without a network. Skips where that is not possible."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed: pip install -e .[dev]")
    if not (root() / "pyproject.toml").is_file():
        pytest.skip("no checkout to build a wheel from")
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check", "-q"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, root()], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TINYMETAFED", "XDG"))}
    path = f"{folder / 'venv' / 'bin'}{os.pathsep}{kept['PATH']}"
    made = WheelVenv(folder / "venv", kept | {"HOME": str(folder / "home"), "PATH": path})
    subprocess.run([*pip, "--python", made.python, "install", *offline, wheel], check=True, cwd=folder)
    # This environment's packages come after the wheel; the links of its editable installations are not followed.
    (made.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pio = made.python.with_name("pio")
    pio.write_text(f'#!/bin/sh\nexec {made.python} -m platformio "$@"\n')
    pio.chmod(0o755)
    script = "import tinymetafed, tinymetafed_codegen.locate as at; print(tinymetafed.__file__, at.root(), sep='\\n')"
    found = made.run(folder, made.python, "-c", script).stdout.splitlines()
    assert len(found) == 2 and all(Path(path).is_relative_to(made.site) for path in found), f"not the wheel's: {found}"
    return made
