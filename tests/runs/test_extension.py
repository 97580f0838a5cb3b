"""Runs that are extended: a run of more rounds has the weights of one begun with them, and every figure is made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import SINE

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.runs import store

CONSTANT = {"strategy.schedule": "constant", "run.rounds": 12, "evaluation.tasks": 8, "evaluation.every": 0}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    return tmf.simulate(tmf.load(SINE, CONSTANT), out=tmp_path_factory.mktemp("short") / "run", progress=False)


@pytest.fixture
def copy(short: tmf.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(short.path, tmp_path / "copy"))


def test_a_finished_run_becomes_the_longer_one(copy: Path, tmp_path: Path) -> None:
    said: list[str] = []
    longer = tmf.resume(copy, rounds=30, progress=lambda progress: said.append(progress.event))
    whole = tmf.simulate(tmf.load(SINE, CONSTANT | {"run.rounds": 30}), out=tmp_path / "whole", progress=False)
    assert longer.finished and longer.rounds == 30 and longer.weights_sha256 == whole.weights_sha256 and not any(said)
    assert longer.result is not None and whole.result is not None
    for key in ("rounds", "meta_test", "d_curve", "example", "untrained", "bytes_down", "bytes_up"):
        assert getattr(longer.result, key) == getattr(whole.result, key)
    assert longer.experiment.spec.run.rounds == 30 and list(longer.history.evaluated_after) == [12, 30]
    shown = longer.report().read_text(encoding="utf-8")
    assert "30 of 30 rounds" in shown and "the run was continued, to 30 rounds" in shown
    assert tmf.resume(copy, progress=False).rounds == 30  # it keeps its new length
    further = tmf.resume(copy, rounds=31, experiment=tmf.load(SINE, CONSTANT), progress=False)
    assert further.rounds == 31 and further.finished


def test_an_interrupted_extension_is_continued_to_its_new_end(copy: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: tmf.ProgressEvent) -> None:
        if progress.stage == "meta-training" and progress.done == 3:
            raise Stop

    with pytest.raises(Stop):
        tmf.resume(copy, rounds=20, progress=stop)
    run = tmf.open_run(copy)
    assert not run.finished and run.result is None and run.rounds == 15
    assert tmf.resume(copy, progress=False).rounds == 20


def test_a_schedule_that_depends_on_the_rounds_is_named(tmp_path: Path) -> None:
    linear = CONSTANT | {"strategy.schedule": "linear", "strategy.alpha_max": 0.5}
    tmf.simulate(tmf.load(SINE, linear), out=tmp_path / "run", progress=False)
    said: list[str] = []
    assert tmf.resume(tmp_path / "run", rounds=20, progress=lambda progress: said.append(progress.event)).rounds == 20
    (text,) = filter(None, said)
    assert "strategy.schedule = 'linear' is now spread over 20 rounds" in text and "not be those" in text


def test_what_cannot_be_extended_is_refused(copy: Path, tmp_path: Path) -> None:
    before = store.read_run(copy)
    with pytest.raises(tmf.SpecError, match=r"run\.rounds = 11, but 12 rounds are trained already; give 12 or more"):
        tmf.resume(copy, rounds=11, progress=False)
    with pytest.raises(tmf.StoreError, match="not the experiment of"):
        tmf.resume(copy, rounds=20, experiment=tmf.load(SINE, CONSTANT | {"run.seed": 9}), progress=False)
    assert tmf.resume(copy, rounds=12, progress=False).rounds == 12
    after = store.read_run(copy)
    assert (after.sessions, after.rounds, after.result) == (before.sessions, before.rounds, before.result)
    tiny = tmf.load(SINE, {"strategy.kind": "tinyol", "evaluation.tasks": 4})
    tmf.simulate(tiny, out=tmp_path / "tiny", progress=False)
    with pytest.raises(tmf.SpecError, match=r"strategy\.kind = 'tinyol' has no rounds"):
        tmf.resume(tmp_path / "tiny", rounds=5, progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["run.seed=2"], "only run.rounds may change"),
        (["run.rounds=many"], "expected a whole number of rounds"),
        (["run.rounds=" + 5_000 * "9"], "expected a whole number of rounds"),
        (["run.rounds=２０００"], "expected a whole number of rounds"),
        (["run.rounds=3"], "12 rounds are trained already"),
    ],
)
def test_the_command_takes_no_other_key(
    copy: Path, settings: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["tinymetafed", "simulate", "--resume", str(copy), *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and words in " ".join(capsys.readouterr().err.split())
    assert store.read_run(copy).trained == 12


def test_the_command_extends(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tinymetafed", "simulate", "--resume", str(copy), "--set", "run.rounds=14"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and store.read_run(copy).trained == 14
