"""Runs of somebody else: their code, boards and devices are not used before --trust, and no file of theirs writes elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SINE

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.runs import foreign_parts
from tinymetafed.runs.foreign_parts import Part, record_file, remember, require_known
from tinymetafed.runs.run_data import RunData
from tinymetafed_codegen.errors import Error

SMALL = {"run.rounds": 1, "evaluation.tasks": 1, "evaluation.every": 0}

TASK = """
import os, pathlib
import numpy as np
import tinymetafed as tmf

pathlib.Path(os.environ["CANARY"]).touch()


class Line(tmf.Task):
    @classmethod
    def facts(cls, options):
        return tmf.TaskFacts(title="Line", input_shape=(1,), output_size=1, loss="mse", may_repeat=True)

    def read(self, data):
        pass

    def _some(self, client, round, purpose, count):
        drawn = self.uniform(client, round, int(purpose), count).astype(np.float32).reshape(-1, 1)
        return tmf.Samples(drawn, drawn)

    def samples(self, client, round, sample_set, count):
        return self._some(client, round, sample_set, count)

    def test_samples(self, client, round):
        return self._some(client, round, 9, 4)

    def describe(self, client):
        return "a line"
"""
STRATEGY = """
import os, pathlib
import tinymetafed as tmf

pathlib.Path(os.environ["CANARY"]).touch()


class Mine(tmf.TinyMetaFed):
    pass
"""


def becomes_somebody_else(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is that of a user who has not trained anything yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr(foreign_parts, "_accepted", set())


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once a run's code has run."""
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    return tmp_path / "canary"


def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tmf.Run:
    """A run with a strategy of its own that somebody else has trained and sent, with the file of the strategy."""
    becomes_somebody_else(tmp_path / "their state", monkeypatch)
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "mine.py").write_text(STRATEGY)
    shutil.copy(SINE, folder / "sine.toml")
    kind = {"strategy.kind": "mine.py:Mine"}
    loaded = tmf.load(folder / "sine.toml", {**SMALL, **kind, **changes})  # type: ignore[dict-item]
    tmf.simulate(loaded, out=folder / "run", progress=False)
    shutil.copytree(folder, tmp_path / "here")
    shutil.rmtree(folder)
    becomes_somebody_else(tmp_path / "our state", monkeypatch)
    (tmp_path / "canary").unlink(missing_ok=True)
    return tmf.open_run(tmp_path / "here" / "run")


def uses(run: tmf.Run, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """All that can be done with a run and needs its experiment."""
    return {
        "experiment": lambda: run.experiment,
        "adapt": lambda: run.adapt(tasks=1),
        "evaluate": lambda: run.evaluate(),
        "report": lambda: run.report(),
        "export": lambda: run.export(tmp_path / "net.h", client="0"),
        "export to a folder": lambda: run.export(tmp_path / "library", format="cpp"),
        "resume": lambda: tmf.resume(run.path, devices=["native:1"]),
        "resume here": lambda: tmf.resume(run.path, simulated=True, rounds=2),
        "compare": lambda: tmf.compare([run, run.path.parent / "copy"], tmp_path / "both.html"),
    }


def test_code_of_somebody_else_does_not_run(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = sent(tmp_path, monkeypatch)
    shutil.copytree(run.path, run.path.parent / "copy")
    for name, use in uses(run, tmp_path).items():
        with pytest.raises(tmf.UntrustedError) as refused:
            use()
        assert str(refused.value).startswith(f"{run.path}: the file of strategy.kind = '"), name
        assert "mine.py:Mine' has changed since you used it on this machine, or you never have (sha256 " in str(refused.value)
        assert "--trust" in str(refused.value)
        assert not canary.exists(), name


def test_commands_need_trust_once(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sent(tmp_path, monkeypatch)

    def command(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code

    commands = (
        ("adapt", str(run.path)),
        ("evaluate", str(run.path)),
        ("report", str(run.path)),
        ("export", str(run.path), "-o", str(tmp_path / "library"), "--format", "cpp"),
        ("train", "--resume", str(run.path), "--device", "native:1"),
        ("simulate", "--resume", str(run.path)),
        ("start", str(run.path), "-d", "native:1"),
        ("estimate", str(run.path)),
    )
    for words in commands:
        assert command(*words) == 1
        assert "--trust" in " ".join(capsys.readouterr().err.split())
        assert not canary.exists(), words
    assert command("evaluate", str(run.path), "--trust") == 0
    assert canary.exists()
    assert command("report", str(run.path)) == 0
    assert command("simulate", "--resume", str(run.path)) == 0
    assert "mine.py:Mine" in record_file().read_text()
    assert record_file().stat().st_mode & 0o077 == 0
    assert command("train", str(SINE), "--trust") == 2
    monkeypatch.setattr(foreign_parts, "_accepted", set())  # another process of the same user
    assert tmf.open_run(run.path).experiment.spec.strategy.kind.endswith("mine.py:Mine")
    (run.path.parent / "mine.py").write_text(STRATEGY + "# another content\n")
    with pytest.raises(tmf.UntrustedError):
        tmf.open_run(run.path).report()


def test_what_the_user_trains_with_is_his_own(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "state", monkeypatch)
    (tmp_path / "line.py").write_text(TASK)
    text = SINE.read_text(encoding="utf-8").replace('kind = "sine"', 'kind = "line.py:Line"', 1)
    (tmp_path / "line.toml").write_text(text, encoding="utf-8")
    run = tmf.simulate(tmf.load(tmp_path / "line.toml", SMALL), out=tmp_path / "run", progress=False)
    monkeypatch.setattr(foreign_parts, "_accepted", set())  # another process of the same user
    assert canary.exists() and run.report().is_file()
    assert run.experiment.spec.task.title == "Line"
    # The experiment that the user names is his own, too, where only the run is at hand otherwise.
    becomes_somebody_else(tmp_path / "new state", monkeypatch)
    with pytest.raises(tmf.UntrustedError, match=r"task.kind = "):
        tmf.resume(run.path)
    assert tmf.resume(run.path, experiment=tmf.load(tmp_path / "line.toml", SMALL)).finished


def test_a_folder_does_not_name_its_code(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "state", monkeypatch)
    (tmp_path / "line.py").write_text(TASK)
    text = SINE.read_text(encoding="utf-8").replace('kind = "sine"', 'kind = "line.py:Line"', 1)
    (tmp_path / "experiment.toml").write_text(text, encoding="utf-8")
    with pytest.raises(tmf.UntrustedError, match=r"name it: tinymetafed check .*experiment\.toml"):
        tmf.check(tmp_path)
    assert not canary.exists()
    with pytest.raises(tmf.UsageError, match="check is for the files of task 'folder'"):
        tmf.check(tmp_path / "experiment.toml")
    assert canary.exists()


def test_devices_of_somebody_else_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    becomes_somebody_else(tmp_path / "state", monkeypatch)
    run = tmf.simulate(tmf.load(SINE, {**SMALL, "run.rounds": 0}), out=tmp_path / "run", progress=False)
    url = f"native:1?store={tmp_path / 'outside'}"
    for devices, testers in (((url,), ("native:1",)), (("native:1",), (url,)), (("/dev/ttyACM0",), ("native:1",))):
        asked = replace(run.data.header.asked, devices=devices, test_devices=testers)
        begun = replace(run.data, header=replace(run.data.header, asked=asked))
        monkeypatch.setattr("tinymetafed.runs.store.read_run", lambda path, begun=begun: begun)
        with pytest.raises(tmf.UntrustedError, match=r"device '(/dev/ttyACM0|native:1\?store=.*)' .*devices of your own"):
            tmf.resume(run.path)
        foreign_parts.require_known(foreign_parts.devices_of(["native:2", "qemu:1@rv32"]), run.path)
    assert not (tmp_path / "outside").exists()
    remember(foreign_parts.devices_of([url]))
    require_known(foreign_parts.devices_of([url]), run.path)


def test_boards_of_a_project_around_a_run_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "their state", monkeypatch)
    project = tmp_path / "project"
    run = tmf.simulate(tmf.load(SINE, {**SMALL, "run.rounds": 0}), out=project / "runs" / "run", progress=False)
    (project / "boards").mkdir()
    (project / "boards" / "native.json").write_text("{}")
    for use in (lambda: run.adapt(tasks=1), lambda: run.report(), lambda: run.evaluate()):
        with pytest.raises(tmf.UntrustedError, match=r"the boards of .*boards, with their compilers"):
            use()
    parts = foreign_parts.project_around(run.path)
    (project / "port" / "native").mkdir(parents=True)
    (project / "port" / "native" / "port.cpp").write_text("// evil")
    assert foreign_parts.project_around(run.path) != parts
    here = Path.cwd()
    monkeypatch.chdir(project)  # who works in a folder uses its boards
    assert foreign_parts.project_around(run.path) == []
    remember(foreign_parts.of_experiment(run.experiment.spec, "experiment.toml"))
    monkeypatch.chdir(here)  # and may go on from elsewhere
    assert run.experiment.name == "experiment"


@pytest.mark.parametrize(
    "kind",
    ["antigravity:x", "os:system", "{folder}/evil.py:X", "../evil.py:X", "evil.py:X", "evil:X", "/dev/zero.py:X"],
)
@pytest.mark.parametrize("section", ["task", "strategy", "op"])
def test_no_way_to_name_code_is_missed(tmp_path: Path, canary: Path, kind: str, section: str) -> None:
    from tinymetafed_codegen.spec import anchored

    for folder in (tmp_path / "run", tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "evil.py").write_text(STRATEGY)
    kind = kind.format(folder=tmp_path)
    raw = {"model": {"layers": [{"op": kind}]}} if section == "op" else {section: {"kind": kind}}
    parts = foreign_parts.python_of(anchored(raw, tmp_path / "run"))  # type: ignore[arg-type]
    assert len(parts) == (0 if kind.startswith("/dev") else 1)
    assert not canary.exists()


def test_cpp_files_are_parts_with_what_they_include(tmp_path: Path) -> None:
    (tmp_path / "source.cpp").write_text('#include "more.hpp"\n// on_device make\n')
    (tmp_path / "more.hpp").write_text("// one\n")
    (tmp_path / "sensor.cpp").write_text("// sensor\n")
    spec = tmf.load(SINE).spec
    board = spec.board.model_copy(update={"sensor": str(tmp_path / "sensor.cpp")})
    assert [part.what for part in foreign_parts.cpp_of(spec.model_copy(update={"board": board}))] == [
        f"the file of board.sensor = '{tmp_path / 'sensor.cpp'}'"
    ]
    toml = tmp_path / "folder.toml"
    toml.write_text(
        SINE.read_text(encoding="utf-8").replace('kind = "sine"', 'kind = "folder"\npath = "."\nsource = "source.cpp"', 1),
        encoding="utf-8",
    )
    loaded = tmf.load(toml)
    first = foreign_parts.cpp_of(loaded.spec)
    (tmp_path / "more.hpp").write_text("// two\n")
    second = foreign_parts.cpp_of(loaded.spec)
    assert len(first) == len(second) == 1 and first != second


def test_a_pipe_for_a_python_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    for name in (tmp_path / "pipe.py", tmp_path / "zero.py"):
        if name.name == "zero.py":
            name.symlink_to("/dev/zero")
        with pytest.raises(tmf.UntrustedError, match="names no regular file"):
            foreign_parts.python_of({"task": {"kind": f"{name}:X"}})


def test_the_record_is_believed_only_if_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "state", monkeypatch)
    part = Part("code", "ab" * 32)
    remember([part])
    remember([part])
    assert record_file().read_text().count("\n") == 1
    monkeypatch.setattr(foreign_parts, "_accepted", set())
    require_known([part], tmp_path)
    record_file().chmod(0o666)  # anybody may have written it
    with pytest.raises(tmf.UntrustedError):
        require_known([part], tmp_path)
    # Where nothing can be written, this process still accepts what it was told to.
    becomes_somebody_else(tmp_path / "file" / "state", monkeypatch)
    (tmp_path / "file").write_text("no folder")
    remember([part])
    require_known([part], tmp_path)


def test_a_line_of_the_record_cannot_be_forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "state", monkeypatch)
    remember([Part(f"code\n{'cd' * 32} other", "ab" * 32)])
    monkeypatch.setattr(foreign_parts, "_accepted", set())
    with pytest.raises(tmf.UntrustedError):
        require_known([Part("other", "cd" * 32)], tmp_path)


def test_links_in_a_run_folder_lead_nowhere(tmp_path: Path) -> None:
    """Writing into a run folder, training and reporting, changes no file outside it."""
    run = tmf.simulate(tmf.load(SINE, SMALL), out=tmp_path / "run", progress=False)
    precious = tmp_path / "precious"
    for name in (
        "lock",
        "run.db",
        "run.db-wal",
        "run.db-journal",
        "run.db-shm",
        "weights.npz",
        "report.html",
        "experiment.toml",
    ):
        folder = tmp_path / f"with {name}"
        shutil.copytree(run.path, folder)
        precious.write_text("precious\n")
        if name == "run.db":
            (folder / name).rename(precious)
        if name == "experiment.toml":
            shutil.copy(folder / name, precious)
        before = precious.read_bytes()
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(precious)
        try:
            tmf.resume(folder, simulated=True, rounds=2, progress=False).report()
        except Error as error:
            assert str(folder) in str(error)
        assert precious.read_bytes() == before, name


def test_trust_takes_devices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    becomes_somebody_else(tmp_path / "state", monkeypatch)
    run = tmf.simulate(tmf.load(SINE, {**SMALL, "run.rounds": 0}), out=tmp_path / "run", progress=False)
    accepted: list[Path] = []
    monkeypatch.setattr(RunData, "trust", lambda self: accepted.append(self.path))
    tmf.open_run(run.path, trust=True)
    tmf.resume(run.path, trust=True, progress=False)
    assert accepted == [run.path, run.path]
