"""An installed wheel in an environment of its own, for what users plug in from outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from installed_wheel import WheelVenv

from tinymetafed_codegen.locate import root


@pytest.fixture(scope="session")
def wheel_venv(tmp_path_factory: pytest.TempPathFactory) -> WheelVenv:
    """The wheel of this checkout, installed; its dependencies are those of the tests' own environment."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed: pip install -e .[dev]")
    if not (root() / "pyproject.toml").is_file():
        pytest.skip("no checkout to build a wheel from")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check", "-q"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, root()], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TINYMETAFED", "XDG"))}
    made = WheelVenv(folder / "venv", variables | {"HOME": str(folder / "home")})  # builds go to the home's cache
    subprocess.run([*pip, "--python", made.python, "install", *offline, wheel], check=True, cwd=folder)
    base = {"base": str(made.folder), "platbase": str(made.folder)}
    site = Path(sysconfig.get_path("purelib", vars=base))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # after the wheel
    return made
