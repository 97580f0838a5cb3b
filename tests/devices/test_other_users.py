"""An installation or a build folder that belongs to another user: firmware is built in a folder of this user's own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import needs_board

from tinymetafed_codegen import toolchain
from tinymetafed_codegen.files import own_folder
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.toolchain import BuildError, build_root

NOBODY = 65534
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
BUILD = """
import os
from tinymetafed_codegen import design, locate, spec
from tinymetafed_codegen.board import boards
from tinymetafed.devices import firmware, running
assert locate.is_checkout() and not os.access(locate.root(), os.W_OK)
file = locate.find("examples/sine.toml")
made = design.design(spec.load(file), boards.load("native"), str(file))
print(running.build_firmware(made, "native", firmware.Deviation(optimization="-O0")).program)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for each in folder.rglob("*"):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o755)
    shutil.rmtree(folder)


def without_the_rights_of_root() -> None:
    """Lets the permissions of files hold for root too, in the program that is executed next."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@needs_board("native")
def test_a_read_only_installation_builds(place: Path) -> None:
    installed = place / "installed"
    for name in ("boards", "codegen", "examples", "firmware", "host"):
        shutil.copytree(root() / name, installed / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root() / "platformio.ini", installed)
    for each in (installed, *installed.rglob("*")):
        each.chmod(0o555 if each.is_dir() else 0o444)
    cache = place / "cache"
    cache.mkdir()
    path = f"{installed}/host{os.pathsep}{installed}/codegen"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TINYMETAFED", "PLATFORMIO"))}
    environment |= {"PYTHONPATH": path, "HOME": "/nonexistent", "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", BUILD],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=without_the_rights_of_root,
    )
    assert done.returncode == 0, done.stderr
    program = Path(done.stdout.strip())
    assert program.is_file() and program.is_relative_to(cache / "tinymetafed")


@pytest.fixture
def as_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files belong to another user, who lets everybody write only where the mode says so."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    monkeypatch.setattr(os, "access", lambda path, _: bool(os.stat(path).st_mode & 0o002))


def test_a_folder_of_another_user_gets_a_folder_of_this_user(as_another: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert own_folder(tmp_path) == tmp_path / f"user-{NOBODY}"
    assert own_folder(tmp_path / "new") == tmp_path / "new"
    (tmp_path / f"user-{NOBODY}").mkdir()  # by the other one
    assert own_folder(tmp_path) is None
    tmp_path.chmod(0o755)
    assert own_folder(tmp_path) is None and own_folder(tmp_path / "new" / "deep") is None


def test_builds_go_where_this_user_may_write(as_another: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, cache, temporary = (tmp_path / name for name in ("shared", "cache", "temporary"))
    for each in (shared, cache, temporary):
        each.mkdir(mode=0o755)
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(BuildError, match=rf"{shared}: this user cannot write there; set TINYMETAFED_BUILD_DIR"):
        build_root()
    for folder, found in (
        (temporary, temporary / f"tinymetafed-{NOBODY}"),
        (cache, cache / "tinymetafed"),
        (shared, shared / f"user-{NOBODY}"),
    ):
        folder.chmod(0o1777)
        assert build_root() == found
    monkeypatch.delenv("TINYMETAFED_BUILD_DIR")
    monkeypatch.setattr(toolchain, "is_checkout", lambda: True)
    monkeypatch.setattr(toolchain, "root", lambda: shared / "checkout")
    assert build_root() == shared / "checkout" / ".pio" / "experiments"


def test_a_folder_that_another_user_has_prepared_among_temporary_files_is_not_used(
    as_another: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shared", "cache"):
        (tmp_path / name).mkdir(mode=0o755)
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prepared = tmp_path / f"tinymetafed-{NOBODY}"
    prepared.mkdir()
    prepared.chmod(0o777)
    with pytest.raises(BuildError):
        build_root()


def test_a_user_without_a_home_has_a_build_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "TINYMETAFED_BUILD_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(toolchain, "is_checkout", lambda: False)
    assert build_root() == tmp_path / f"tinymetafed-{os.getuid()}"
