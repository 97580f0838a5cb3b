"""A wheel built from this checkout and installed in an environment of its own, once for the tests of an installed package."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tinymetafed_codegen.files import locked
from tinymetafed_codegen.locate import root


@dataclass(frozen=True)
class WheelVenv:
    """A virtual environment with our wheel; it takes the wheel's dependencies from the environment of the tests.

    ``variables`` are the environment variables of its processes: none leads to the checkout, and the home folder, with the
    build cache, belongs to this environment.
    """

    folder: Path
    variables: dict[str, str]

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        """The folder with the wheel's files."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder), "platbase": str(self.folder)}))

    def run(self, cwd: Path, *command: object) -> subprocess.CompletedProcess[str]:
        """Runs a program in a folder, whatever its exit code; programs of the environment are found first."""
        words = [str(word) for word in command]
        return subprocess.run(words, cwd=cwd, env=self.variables, capture_output=True, text=True, check=False)

    def tinymetafed(self, cwd: Path, *arguments: object) -> str:
        """Runs a `tinymetafed` command, which must succeed; returns its output."""
        done = self.run(cwd, self.folder / "bin" / "tinymetafed", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def wheel_venv(tmp_path_factory: pytest.TempPathFactory) -> WheelVenv:
    """The wheel of this checkout, installed outside the checkout once for all test processes. Nobody may change its files."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        known = folder / "installed.pickle"
        if not known.exists():
            known.write_bytes(pickle.dumps(_install(folder)))
    found: WheelVenv = pickle.loads(known.read_bytes())
    return found


def _install(folder: Path) -> WheelVenv:
    """Builds the wheel and installs it below an empty folder, without a network. Skips the test where this is impossible."""
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
    own = {"HOME": str(folder / "home"), "PATH": path, "MYPY_CACHE_DIR": str(folder / "mypy")}
    # What `make lint` knows of the same files, by their hash: mypy takes 12 s to read those of NumPy and pydantic.
    if (root() / ".mypy_cache").is_dir():
        shutil.copytree(root() / ".mypy_cache", folder / "mypy")
    made = WheelVenv(folder / "venv", kept | own)
    subprocess.run([*pip, "--python", made.python, "install", *offline, wheel], check=True, cwd=folder)
    # The packages of the tests' environment come after the wheel; links of editable installations are not followed.
    (made.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pio = made.python.with_name("pio")
    pio.write_text(f'#!/bin/sh\nexec {made.python} -m platformio "$@"\n')
    pio.chmod(0o755)
    script = "import tinymetafed, tinymetafed_codegen.locate as at; print(tinymetafed.__file__, at.root(), sep='\\n')"
    found = made.run(folder, made.python, "-c", script).stdout.splitlines()
    assert len(found) == 2 and all(Path(path).is_relative_to(made.site) for path in found), f"not the wheel's: {found}"
    return made
