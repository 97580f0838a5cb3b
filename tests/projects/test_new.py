"""`tinymetafed new` makes a complete project or nothing; it trains unchanged, with its own sample source, and from a wheel."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from installed_wheel import WheelVenv
from small_runs import Quiet
from test_docs import command_fault, commands, read

from tinymetafed.learn.tasks.folder import Folder
from tinymetafed.projects import new as project
from tinymetafed.runs import training
from tinymetafed.runs.journal import RunResult
from tinymetafed.runs.setup import measured_design, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import board_errors
from tinymetafed_codegen.locate import platformio_config, root

SHORT = ("run.rounds=60", "evaluation.tasks=10", "evaluation.every=0")


@pytest.fixture
def gestures(tmp_path: Path) -> Path:
    """A new project made from the template."""
    project.create(tmp_path / "gestures", "native")
    return tmp_path / "gestures"


def uncomment_source(folder: Path) -> None:
    text = (folder / "experiment.toml").read_text()
    assert text.count("\n# source = ") == 1
    (folder / "experiment.toml").write_text(text.replace("\n# source = ", "\nsource = "))


def train(folder: Path) -> RunResult:
    file = folder / "experiment.toml"
    setup = set_up(spec.load(file, SHORT), str(file), None)
    return training.train(setup, ["native:2"], ["native:2"], folder / "run", Quiet())


def test_new_writes_the_same_project_every_time(gestures: Path) -> None:
    names = {str(path.relative_to(gestures)) for path in gestures.rglob("*") if path.is_file()}
    assert names == {
        "experiment.toml", "source.cpp", "platformio.ini", "platform/platform.json", "platform/platform.py", "README.md",
        ".gitignore",
        "data/alice.csv", "data/bob.csv", "data/carol.csv", "data/dave.csv",
    }  # fmt: skip
    again = project.files("gestures", "native")
    assert {name: (gestures / name).read_text(encoding="utf-8") for name in names} == again
    other = project.files("x", "mps2")
    assert "default_envs = mps2" in other["platformio.ini"]
    assert not any("{{" in text or "{%" in text for text in again.values())


def test_its_experiment_fits_its_data(gestures: Path) -> None:
    experiment = spec.load(gestures / "experiment.toml")
    task = set_up(experiment, "test", None).task
    assert isinstance(task, Folder)
    assert [client.name for client in (*task.trained, *task.unseen)] == ["alice", "bob", "carol", "dave"]
    assert task.n_validation == 1 and experiment.evaluation.every > 0, "it has a learning curve"
    means = [client.inputs.mean(axis=0) for client in (*task.trained, *task.unseen)]
    assert all(abs(a - b).max() > 0.2 for a, b in ((means[0], means[1]), (means[1], means[2])))  # clients differ


def test_its_readme_names_commands_that_exist(gestures: Path) -> None:
    found = commands(read(gestures / "README.md"))
    assert len(found) == 3 and [fault for command in found if (fault := command_fault(command))] == []


@pytest.mark.usefixtures("built_once")
def test_a_new_project_learns(gestures: Path) -> None:
    test = train(gestures).meta_test
    assert test.before < 0.6 and test.after > 0.7


@pytest.mark.usefixtures("built_once")
def test_a_new_project_learns_from_its_own_source(gestures: Path) -> None:
    uncomment_source(gestures)
    result = train(gestures)
    assert result.bytes_samples == 0
    assert result.meta_test.before < 0.6 and result.meta_test.after > 0.7


@pytest.mark.parametrize("own", [False, True])
def test_platformio_builds_it_into_its_own_folder(gestures: Path, own: bool) -> None:
    if own:
        uncomment_source(gestures)
    before = snapshot(root() / "boards") | snapshot(root() / "firmware")
    pio(gestures, sys.executable, os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"})
    program = (gestures / ".pio" / "build" / "native" / "firmware.elf").read_bytes()
    manifest = measured_design(spec.load(gestures / "experiment.toml"), "test").manifest
    assert bytes.fromhex(manifest.model_hash) in program
    assert snapshot(root() / "boards") | snapshot(root() / "firmware") == before


def test_a_project_contains_no_path_of_this_machine(gestures: Path, tmp_path: Path) -> None:
    for path in gestures.rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for place in (root(), tmp_path, Path.home(), Path(sys.prefix)):
            assert str(place) not in text, path


def test_a_copied_project_builds_with_an_installation_in_another_place(gestures: Path, tmp_path: Path) -> None:
    ours, other = tmp_path / "one" / "tinymetafed", tmp_path / "another" / "place"
    for part in ("boards", "codegen", "firmware"):
        shutil.copytree(root() / part, ours / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root() / "platformio.ini", ours)

    def build(folder: Path, installation: Path) -> None:
        path = os.pathsep.join([str(installation / "codegen"), *sys.path])
        pio(folder, sys.executable, os.environ | {"PYTHONPATH": path})
        assert f"root = {installation}\n" in (folder / ".pio" / "tinymetafed.ini").read_text()
        assert (folder / ".pio" / "build" / "native" / "firmware.elf").is_file()
        shutil.rmtree(folder / ".pio" / "build")

    build(gestures, ours)
    # The files that git tracks are those of a new project, which the first build has begun with.
    tracked = (file for file in gestures.rglob("*") if file.is_file() and {".pio", "__pycache__"}.isdisjoint(file.parts))
    found = {str(file.relative_to(gestures)): file.read_text(encoding="utf-8") for file in tracked}
    assert found == project.files("gestures", "native")
    shutil.copytree(gestures, tmp_path / "copy")  # including build output
    shutil.rmtree(gestures)
    other.parent.mkdir()
    ours.rename(other)
    build(tmp_path / "copy", other)


def test_two_installations_are_not_mixed(gestures: Path, tmp_path: Path) -> None:
    data = tmp_path / "site" / "_data"  # an installed package without codegen, which the other environment has
    for part in ("boards", "firmware"):
        shutil.copytree(root() / part, data / part, ignore=shutil.ignore_patterns("__pycache__"))
    (gestures / ".pio").mkdir()
    (gestures / ".pio" / "tinymetafed.ini").write_text(platformio_config().replace(str(root()), str(data)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "platformio", "run", "-e", "native"]
    done = subprocess.run(command, cwd=gestures, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert f"has TinyMetaFed in {root()}, but this project uses the one in {data}; remove {gestures}/.pio/" in said
    (gestures / ".pio" / "tinymetafed.ini").unlink()
    pio(gestures, sys.executable, environment, "--target", "compiledb")  # configured, but not compiled
    assert f"root = {root()}\n" in (gestures / ".pio" / "tinymetafed.ini").read_text()


# Errors


def test_a_folder_with_something_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(project.ProjectError, match="exists and is not empty"):
            project.create(folder, "native")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_board_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(board_errors.BoardError, match="did you mean 'native'"):
        project.create(tmp_path / "p", "nativ")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("there_before", [False, True])
def test_a_failure_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool) -> None:
    genuine, folder = Path.write_text, tmp_path / "p"
    if there_before:
        folder.mkdir()

    def no_room(self: Path, *arguments: Any, **named: Any) -> int:
        if self.suffix == ".csv":
            raise OSError(28, "No space left on device", str(self))
        return genuine(self, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_text", no_room)
        project.create(folder, "native")
    assert folder.exists() == there_before and not list(tmp_path.rglob("*.*"))
    project.create(folder, "native")


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(project.ProjectError, match=r"absent/p: cannot be made: No such file"):
        project.create(tmp_path / "absent" / "p", "native")


# An installed wheel


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder, with the time of its last change and a hash of what is in it."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def pio(folder: Path, python: str, environment: dict[str, str], *options: str) -> None:
    command = [python, "-m", "platformio", "run", "-e", "native", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_wheel_makes_and_trains_a_project_and_is_never_written_to(wheel_venv: WheelVenv, tmp_path: Path) -> None:
    before = snapshot(wheel_venv.site)
    wheel_venv.tinymetafed(tmp_path, "new", "gestures")
    folder = tmp_path / "gestures"
    settings = [word for key in ("run.rounds=3", "evaluation.tasks=1") for word in ("--set", key)]
    wheel_venv.tinymetafed(folder, "train", "experiment.toml", "-d", "native:2", "--out", "run", *settings)
    assert (folder / "run" / "report.html").is_file()
    pio(folder, str(wheel_venv.python), wheel_venv.variables)
    assert f"root = {wheel_venv.site}/tinymetafed_codegen/_data\n" in (folder / ".pio" / "tinymetafed.ini").read_text()
    assert (folder / ".pio" / "build" / "native" / "firmware.elf").is_file()
    assert snapshot(wheel_venv.site) == before
    assert {path.name for path in folder.iterdir()} - {".pio", "run"} == {
        "experiment.toml", "source.cpp", "platformio.ini", "platform", "README.md", ".gitignore", "data",
    }  # fmt: skip
