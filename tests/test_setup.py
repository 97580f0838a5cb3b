"""`make setup`: an unknown system package leaves out its own board and nothing else."""

from __future__ import annotations

import importlib.util
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
from clocks import HUNG_SECONDS

from tinymetafed_codegen.locate import root

# Logs its arguments; refuses a whole request with an unknown package, as apt-get does.
APT_GET = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *unknown-package*) exit 100 ;; esac
"""


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup", root() / "scripts" / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a stand-in for apt-get."""
    log = tmp_path / "asked"
    log.touch()
    program = tmp_path / "apt-get"
    program.write_text(APT_GET.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return log


def test_an_unknown_package_leaves_out_its_own_board_only(
    setup: ModuleType, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.install_packages({"board new": ["known", "unknown-package"], "board old": ["compiler", "emulator"]}, try_it=True)
    words = [line.split() for line in asked.read_text().splitlines()]
    assert [line[-2:] for line in words if line[0] == "install"] == [
        ["known", "unknown-package"],
        ["compiler", "emulator"],
        ["known", "unknown-package"],  # a second attempt after apt-get update
    ]
    assert [line[0] for line in words] == ["install", "install", "update", "install"]
    left_out = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(left_out) == 1 and "board new" in left_out[0] and "sudo apt install known unknown-package" in left_out[0]


def test_what_can_be_installed_needs_no_new_package_lists(setup: ModuleType, asked: Path) -> None:
    setup.install_packages({"board old": ["compiler", "emulator"]}, try_it=True)
    assert [line.split()[0] for line in asked.read_text().splitlines()] == ["install"]


def test_the_second_time_packages_are_only_named(setup: ModuleType, asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup.install_packages({"board new": ["a", "b"], "board old": ["c"]}, try_it=False)
    assert asked.read_text() == ""
    said = capsys.readouterr().out
    assert "board new: still missing; run: sudo apt install a b\n" in said
    assert "board old: still missing; run: sudo apt install c\n" in said


@pytest.mark.parametrize("trouble", [False, True])
def test_system_packages_are_installed_while_pip_runs(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: bool
) -> None:
    """Each waits for the other, so that neither can come first; a failure of pip ends the setup after both."""
    both, done = threading.Barrier(2, timeout=HUNG_SECONDS), []

    def install_packages(missing: dict[str, list[str]], try_it: bool) -> None:
        if "board old" in missing:
            both.wait()
        done.append((list(missing), try_it))

    def install_python_packages() -> None:
        assert done == [(["Python's venv"], True)], "venv is needed before"
        both.wait()
        if trouble:
            sys.exit("setup: pip failed")

    missing = {"board old": ["compiler"], "Python's venv": ["python3-venv"]}
    monkeypatch.setattr(setup, "STAMP", tmp_path / "done")
    monkeypatch.setattr(setup, "missing_packages", lambda: dict(missing))
    monkeypatch.setattr(setup, "install_packages", install_packages)
    monkeypatch.setattr(setup, "install_python_packages", install_python_packages)
    with pytest.raises(SystemExit, match="pip failed") if trouble else nullcontext():
        setup.main([])
    assert done[1:] == [(["board old"], True)]
    assert setup.STAMP.exists() != trouble, "a failed setup is repeated"


def test_modules_are_compiled_but_not_their_tests(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    texts = {"one/part.py": "x = 1", "one/tests/long.py": "x = 1", "old.py": "print 1", "two.py": "y = 2"}
    for name, text in texts.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    setup.compile_modules(sys.executable)
    assert {path.name.partition(".")[0] for path in packages.rglob("*.pyc")} == {"part", "two"}
    assert capfd.readouterr() == ("", "")


def test_the_broker_is_a_package_where_it_is_missing(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, str | None] = {}
    monkeypatch.setattr("shutil.which", lambda name, path=None: there.get(name, name))
    assert all("mosquitto" not in packages for packages in setup.missing_packages().values())
    there["mosquitto"] = None
    assert setup.missing_packages()["tests of boards at an MQTT broker"] == ["mosquitto"]


def test_names_of_packages_are_no_patterns(setup: ModuleType, asked: Path) -> None:
    """Without package lists apt-get would take g++ for a pattern, match something else, and succeed."""
    setup.install_packages({"board native": ["g++"]}, try_it=True)
    assert "--option APT::Cmd::Pattern-Only=true g++" in asked.read_text()


def test_an_image_gets_packages_and_nothing_else(
    setup: ModuleType, asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = iter([{"board old": ["compiler"]}, {}])
    monkeypatch.setattr(setup, "missing_packages", lambda: next(left))
    monkeypatch.setattr(setup, "run", lambda *_: pytest.fail("sets up more than packages"))
    setup.main(["packages"])
    assert asked.read_text().split()[-1] == "compiler"
    left = iter([{"board new": ["unknown-package"]}, {"board new": ["unknown-package"]}])
    with pytest.raises(SystemExit, match="setup: still missing: board new"):
        setup.main(["packages"])
    with pytest.raises(SystemExit, match="setup: everything: unknown"):
        setup.main(["everything"])
