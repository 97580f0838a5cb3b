"""Runs with logs: every round once, in order, over all sessions; what a tracker does never changes or ends a run."""

from __future__ import annotations

import csv
import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS
from run_values import contribution, evaluation, round_entry, run_result, session
from small_runs import Quiet
from stored_runs import WEIGHTS, after, begun, commit

import tinymetafed as tmf
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import store
from tinymetafed.trackers.csv_tracker import COLUMNS, CsvTracker
from tinymetafed.trackers.run_logs import RunLogs, logged
from tinymetafed.trackers.trackers_by_name import trackers

SHORT = {"run.rounds": 12, "evaluation.every": 5, "evaluation.every_tasks": 3, "evaluation.tasks": 6}


class Recording(tmf.Tracker):
    """Remembers what it was shown; ``known``: rounds that it says to have."""

    def __init__(self, known: int | None = None) -> None:
        self.known = known
        self.runs: list[tmf.TrackedRun] = []
        self.rounds: list[tmf.TrackedRound] = []
        self.ends: list[tmf.TrackedEnd] = []
        self.closed = 0

    def start(self, run: tmf.TrackedRun) -> int | None:
        self.runs.append(run)
        return self.known

    def round(self, round: tmf.TrackedRound) -> None:
        self.rounds.append(round)

    def finished(self, end: tmf.TrackedEnd) -> None:
        self.ends.append(end)

    def close(self) -> None:
        self.closed += 1


class Told(Quiet):
    """An observer that remembers events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    """A run without logs."""
    return tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=tmp_path_factory.mktemp("plain") / "run", progress=False)


def simulated(out: Path, log: list[str | tmf.Tracker], told: Told | None = None) -> tmf.Run:
    return tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=out, log=log, progress=told or Told())


def test_a_tracker_sees_keys_rounds_scores_and_the_end(tmp_path: Path, plain: tmf.Run) -> None:
    log = Recording()
    run = simulated(tmp_path / "run", [log])
    (facts,), (end,) = log.runs, log.ends
    assert facts.folder == run.path and facts.rounds == 12 and facts.trained == 0
    assert facts.parameters["strategy.alpha_max"] == run.experiment.spec.strategy.alpha_max
    assert facts.parameters["model.layers.0.op"] == "dense" and facts.parameters["task.kind"] == "sine"
    history = run.history
    assert [each.round for each in log.rounds] == [*range(1, 13)]
    assert [each.bytes for each in log.rounds] == [*(history.bytes_down + history.bytes_up).cumsum()]
    assert [each.alpha for each in log.rounds] == [*history.alpha]
    scored = {each.round: (each.before, each.after) for each in log.rounds if each.after is not None}
    assert (
        scored == {entry.round: (entry.before, entry.after) for entry in run.data.evaluations if entry.round in (5, 10)}
        and len(scored) == 2
    )
    assert run.result is not None
    assert (end.state, end.error, end.round, end.bytes) == ("finished", "", 12, log.rounds[-1].bytes)
    assert {each.metric for each in log.rounds if each.after is not None} == {"mse"} == {end.metric}
    assert end.after == run.result.meta_test.after and end.weights_sha256 == run.weights_sha256 == plain.weights_sha256
    assert end.report == run.path / "report.html" and end.report.is_file()
    assert log.closed == 1


@pytest.mark.parametrize("known", [None, 4, 99])
def test_a_resumed_run_shows_no_round_twice(tmp_path: Path, plain: tmf.Run, known: int | None) -> None:
    first, stopped = Recording(), tmp_path / "run"

    def interrupt(progress: tmf.ProgressEvent) -> None:
        if progress.stage == "meta-training" and progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=stopped, log=first, progress=interrupt)
    (end,) = first.ends
    assert end.state == "interrupted" and end.report is None and end.after is None and first.closed == 1
    assert [each.round for each in first.rounds] == [*range(1, end.round + 1)] and 0 < end.round < 12
    second = Recording(known)
    run = tmf.resume(stopped, log=[second], progress=False)
    assert [each.round for each in second.rounds] == [*range((known or 0) + 1, 13)]
    assert second.runs[0].trained == end.round and second.ends[0].state == "finished"
    assert run.weights_sha256 == plain.weights_sha256
    whole = first.rounds + second.rounds if known == end.round else second.rounds
    assert [each.round for each in whole if each.after is not None] == [each for each in (5, 10) if each > (known or 0)]
    third = Recording()
    tmf.resume(stopped, log=third, progress=False)  # which has nothing left to do
    assert len(third.rounds) == 12 and third.ends == second.ends


@pytest.mark.parametrize(
    ("where", "error"),
    [
        *((where, "OSError(28, 'No space left on device')") for where in ("__init__", "start", "round", "finished", "close")),
        ("round", "SystemExit(3)"),
    ],
)
def test_a_tracker_that_fails_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, plain: tmf.Run, where: str, error: str
) -> None:
    functions = dict.fromkeys(("start", "round", "finished", "close"), "pass") | {where: f"raise {error}"}
    text = "".join(f"    def {name}(self, *_):\n        {body}\n" for name, body in functions.items())
    file = tmp_path / "failing.py"
    file.write_text(f'"""A tracker that fails."""\n\n\nclass Failing:\n{text}')
    other, told = Recording(), Told()
    run = simulated(tmp_path / "run", [f"{file}:Failing", other], told)
    assert run.weights_sha256 == plain.weights_sha256 and len(other.rounds) == 12
    (warning,) = [text for text in told.events if "--log" in text]
    line = next(number for number, line in enumerate(file.read_text().splitlines(), 1) if "raise" in line)
    assert warning.startswith(f"Warning: --log {file}:Failing: {file}:{line}: {error.partition('(')[0]}: ")
    assert f"(in Failing.{where}())" in warning
    assert warning.endswith(
        f"; the run goes on without this log; tinymetafed log {run.path} --log {file}:Failing writes it afterwards"
    )


def test_a_slow_tracker_holds_no_round_and_changes_no_bit(tmp_path: Path, plain: tmf.Run) -> None:
    trained, late = threading.Event(), list[bool]()

    class Slow(Recording):
        def round(self, round: tmf.TrackedRound) -> None:
            late.append(trained.wait(HUNG_SECONDS))  # until all rounds and tests are done
            super().round(round)

    log = Slow()

    class Watching(Told):
        def stage(self, text: str, total: int = 0) -> None:
            if text.startswith("meta-test without"):
                trained.set()

    run = simulated(tmp_path / "run", [log], Watching())
    assert late == [True] * 12 and [each.round for each in log.rounds] == [*range(1, 13)]
    assert run.weights_sha256 == plain.weights_sha256


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, plain: tmf.Run) -> None:
    hangs, free, said = threading.Event(), threading.Event(), list[str]()

    class Hanging(Recording):
        def round(self, round: tmf.TrackedRound) -> None:
            hangs.set()
            free.wait()

    logs = RunLogs(Told(), trackers(Hanging()), plain.path, lambda named, why: said.append(f"{named.name}: {why}"), 0.01)
    logs.opened(plain.data)
    assert hangs.wait(HUNG_SECONDS)
    logs.end("finished")
    free.set()
    assert said == ["Hanging: no progress for 0.01 seconds, with 13 entries to go"]


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    log = Recording()
    with begun(tmp_path / "run") as run, pytest.raises(tmf.LinkError), logged(Told(), trackers(log), run.path) as observer:
        assert isinstance(observer, RunLogs)
        observer.opened(run.read())
        run.append(entry := round_entry(0, sha256(after(0)), contributions=(contribution(7, "skipped"),)), after(0))
        observer.stored(entry)
        raise tmf.LinkError("/dev/ttyACM0: no answer")
    (end,), (shown,) = log.ends, log.rounds
    assert (end.state, end.error, end.round) == ("failed", "/dev/ttyACM0: no answer", 1)
    assert end.weights_sha256 == sha256(after(0)) and (shown.accepted, shown.skipped) == (0, 1)


def test_a_run_that_never_began_only_closes_its_logs(tmp_path: Path) -> None:
    log = Recording()
    with pytest.raises(tmf.BuildError), logged(Told(), trackers(log), tmp_path / "none"):
        raise tmf.BuildError("no compiler")
    assert (log.runs, log.rounds, log.ends, log.closed) == ([], [], [], 1)


def test_the_score_after_a_round_belongs_to_it_and_a_test_at_the_end_does_not(tmp_path: Path) -> None:
    log = Recording()
    with begun(tmp_path / "run") as run:
        logs = RunLogs(Told(), trackers(log), run.path, lambda named, why: None)
        logs.opened(run.read())
        for each in (0, 1):
            logs.stored(round_entry(each, sha256(WEIGHTS), bytes_down=5))
            logs.stored(evaluation(each + 1, 3.5 + each, per_task=((4.5, 4.5),) * each))
        logs.stored(session(2))
        logs.end("interrupted")
    assert [(each.round, each.bytes, each.after) for each in log.rounds] == [(1, 5, 3.5), (2, 10, None)]


def test_a_score_that_is_stored_after_later_rounds_belongs_to_its_own(tmp_path: Path) -> None:
    log = Recording()
    with begun(tmp_path / "run") as run:
        logs = RunLogs(Told(), trackers(log), run.path, lambda named, why: None)
        logs.opened(run.read())
        for each in range(9):
            if (late := {3: 2, 6: 4}.get(each)) is not None:
                logs.stored(evaluation(late, 10.0 + late))
            if each == 6:
                logs.stored(evaluation(6, 20.0))  # at once, as in a simulation
            logs.stored(round_entry(each, sha256(WEIGHTS), bytes_down=5))
            if each + 1 in (2, 4, 8):
                logs.evaluates(each + 1)
        logs.end("interrupted")  # without the evaluation after 8 rounds
    assert [(each.round, each.bytes) for each in log.rounds] == [(each, 5 * each) for each in range(1, 10)]
    assert {each.round: each.after for each in log.rounds if each.after is not None} == {2: 12.0, 4: 14.0, 6: 20.0}


def test_a_continued_run_shows_the_score_that_was_being_measured(tmp_path: Path) -> None:
    log = Recording()
    with begun(tmp_path / "run") as run:
        for each in range(4):
            commit(run, each)
            if each == 1:
                run.begin_evaluation(2, after(1))
        logs = RunLogs(Told(), trackers(log), run.path, lambda named, why: None)
        logs.opened(run.read())
        logs.evaluates(2)
        logs.stored(evaluation(2, 3.5))
        logs.end("interrupted")
    assert [(each.round, each.after) for each in log.rounds] == [(1, None), (2, 3.5), (3, None), (4, None)]


def rows(run: tmf.Run) -> Iterator[dict[str, str]]:
    with (run.path / "csv" / "rounds.csv").open(newline="") as file:
        yield from csv.DictReader(file)


def test_csv_files_hold_the_run(tmp_path: Path) -> None:
    run = simulated(tmp_path / "run", ["csv"])
    read = [*rows(run)]
    assert tuple(read[0]) == COLUMNS and [int(row["round"]) for row in read] == [*range(1, 13)]
    assert [float(row["alpha"]) for row in read] == [*run.history.alpha]
    assert [row["after"] for row in read if row["after"]] == [str(score) for score in run.history.after[:2]]
    with (run.path / "csv" / "run.csv").open(newline="") as file:
        table = dict(csv.reader(file))
    assert table["state"] == "finished" and table["weights_sha256"] == run.weights_sha256
    assert table["run.rounds"] == "12" and table["test/after"] == str(run.history.after[-1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace("round,", "number,", 1),
        lambda text: text.replace("\n3,", "\n33,", 1),
        lambda text: text + "13,1,1,1,1,1,1,1,1,1,1,1,0,,,\n",
    ],
    ids=["cut off", "empty", "of another version", "a wrong row", "a round too many"],
)
def test_a_damaged_csv_file_is_completed(tmp_path: Path, plain: tmf.Run, damage: object) -> None:
    plain.log("csv", progress=False)
    file = plain.path / "csv" / "rounds.csv"
    whole = file.read_text()
    file.write_text(damage(whole))  # type: ignore[operator]
    plain.log("csv", progress=False)
    assert file.read_text() == whole and len(whole.splitlines()) == 13


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_link_in_somebody_elses_run_is_not_followed(tmp_path: Path, name: str) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'tinymetafed[tensorboard]'")
    with begun(tmp_path / "run") as run:
        run.append(run_result("mse", 4.0, 1.0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(tmf.TrackerError, match=f"--log {name}: StoreError: .*{name}: a link"):
        tmf.open_run(tmp_path / "run").log(name, progress=False)
    assert [*(tmp_path / "mine").iterdir()] == []


def test_several_logs_each_once_and_unknown_ones_refused_before_anything_is_done(tmp_path: Path) -> None:
    assert [named.name for named in trackers(["csv", "csv"])] == ["csv"]
    for wrong, why in (
        ("tensorbord", "--log tensorbord: unknown; there are tensorboard, mlflow, wandb, csv, and FILE.py:CLASS"),
        ("none.py:Log", "--log none.py:Log: none.py: cannot be read"),
    ):
        with pytest.raises(tmf.UsageError, match=why):
            tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=tmp_path / "run", log=["csv", wrong])
    (tmp_path / "half.py").write_text('"""Half a tracker."""\n\n\nclass Half:\n    def start(self, run):\n        pass\n')
    with pytest.raises(tmf.UsageError, match=r"half\.py:4: Half lacks round\(\), finished\(\), close\(\)"):
        trackers(f"{tmp_path / 'half.py'}:Half")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "library"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_missing_library_is_named_with_its_extra(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = rf"--log {name}: the library {library} is missing; install it: pip install 'tinymetafed\[{name}\]'"
    with pytest.raises(tmf.TrackerError, match=said):
        trackers(name)


def test_a_library_without_its_own_parts_is_a_warning_with_the_extra(
    tmp_path: Path, plain: tmf.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as where its parts cannot be imported
    monkeypatch.delitem(sys.modules, "tinymetafed.trackers.mlflow_tracker", raising=False)
    told = Told()
    run = simulated(tmp_path / "run", ["mlflow"], told)
    assert run.weights_sha256 == plain.weights_sha256
    (warning,) = [text for text in told.events if "--log" in text]
    assert "install what is missing: pip install 'tinymetafed[mlflow]'; the run goes on without this log" in warning


def test_a_disk_that_is_full_ends_the_log_and_not_the_run(
    tmp_path: Path, plain: tmf.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: CsvTracker, round_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "run" / "csv" / "rounds.csv"))

    monkeypatch.setattr(CsvTracker, "round", full)
    told = Told()
    run = simulated(tmp_path / "run", ["csv"], told)
    assert run.weights_sha256 == plain.weights_sha256
    (warning,) = [text for text in told.events if "--log" in text]
    assert "No space left on device" in warning and "rounds.csv" in warning
    assert warning.endswith(f"tinymetafed log {run.path} --log csv writes it afterwards")


def test_logs_leave_the_journal_as_it_is(tmp_path: Path, plain: tmf.Run) -> None:
    with_logs = store.read_run(simulated(tmp_path / "run", ["csv", Recording()]).path)
    plain_rounds = [(entry.weights_sha256, entry.contributions) for entry in plain.data.rounds]
    assert [(entry.weights_sha256, entry.contributions) for entry in with_logs.rounds] == plain_rounds
