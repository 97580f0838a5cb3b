"""A search is the same however often it is stopped, looks at validation clients alone, and names what is wrong."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from small_runs import SINE

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.experiments import search_ranges
from tinymetafed.experiments.sweep.spread import Spread
from tinymetafed.experiments.tune import search_space, trial_table
from tinymetafed.experiments.tune.trial_table import Figures, Row
from tinymetafed.learn.metric import Metric
from tinymetafed.runs.store import read_run

FEW = {"run.rounds": 6, "evaluation.tasks": 3, "evaluation.every": 0}
FILE = """
[tune]
seeds = [7]

[tune.search]
"strategy.global_learning_rate" = { low = 0.005, high = 0.05, log = true }
strategy.global_passes = { low = 1, high = 3 }
strategy.top_p = [10, 25, 200]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(FILE.replace("200", "50"))
    return path


def scores(found: tmf.Tuning) -> list[tuple[str, float | None]]:
    return [(row.changes, row.figures and row.figures.after.mean) for row in found.rows]


def test_a_stopped_search_goes_on_to_the_same_trials(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'tinymetafed[tune]'")
    experiment = tmf.load(SINE, FEW)
    whole = tmf.tune(experiment, trials=5, space=file, out=tmp_path / "whole", jobs=1, progress=False)
    assert len(whole.rows) == 5 and whole.rows[0].settings == {} and all(row.figures for row in whole.rows)
    assert all(set(row.settings) == set(whole.rows[1].settings) for row in whole.rows[1:])

    class Stop(BaseException):
        pass

    def stop(progress: tmf.ProgressEvent) -> None:
        if progress.stage == "runs" and progress.done == 2:
            raise Stop

    out = tmp_path / "stopped"
    with pytest.raises(Stop):
        tmf.tune(experiment, trials=4, space=file, out=out, jobs=1, progress=stop)
    assert (out / "table.md").exists()
    assert len(tmf.tune(experiment, trials=3, space=file, out=out, jobs=1, progress=False).rows) == 3
    again = tmf.tune(experiment, trials=5, space=file, out=out, jobs=1, progress=False)
    assert scores(again) == scores(whole)
    assert (out / "trials.csv").read_bytes() == (tmp_path / "whole" / "trials.csv").read_bytes()
    ended = [entry for run in out.glob("runs/*/*/run.db") for entry in read_run(run.parent).evaluations]
    assert len(ended) == 5 and {entry.group for entry in ended} == {"validation"}
    best = min(whole.rows, key=lambda row: row.figures.after.mean)  # type: ignore[union-attr, arg-type, return-value]
    made = tmf.load(whole.folder / "best.toml").spec
    assert best.settings == whole.settings and made.evaluation.group == "test" and made.run == experiment.spec.run
    assert {key: getattr(made.strategy, key.split(".")[1]) for key in best.settings} == best.settings
    assert ElementTree.fromstring((out / "front.svg").read_text()).tag.endswith("svg")
    with pytest.raises(tmf.TuneError, match=r"holds another search: seed was 0 and is 1; choose another folder with -o"):
        tmf.tune(experiment, trials=5, space=file, out=out, seed=1, progress=False)
    with pytest.raises(tmf.TuneError, match=r"holds another search: experiment\.run\.rounds was 6 and is 7"):
        tmf.tune(tmf.load(SINE, FEW | {"run.rounds": 7}), trials=5, space=file, out=out, progress=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("40", (40, None)), ("20min", (None, 20)), ("40, 1h", (40, 60)), ("2.5 minutes", (None, 2.5)), ("5 trials", (5, None))],
)
def test_a_budget_is_trials_a_time_or_both(text: str, expected: tuple[int | None, float | None]) -> None:
    assert tmf.budget_of(text) == expected


@pytest.mark.parametrize("text", ["", ",", "many", "-1", "1.5", "3,4", "1h,20min", "5 s"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(tmf.TuneError, match="expected trials, a time or both, as in 40, 20min or 40,20min"):
        tmf.budget_of(text)


@pytest.mark.parametrize("budget", [{}, {"trials": 0}, {"minutes": 0.0}, {"minutes": float("nan")}])
def test_an_empty_budget_is_refused(budget: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(tmf.TuneError, match="--budget: "):
        tmf.tune(tmf.load(SINE), out=tmp_path / "out", **budget)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


RANGE = '"strategy.global_learning_rate" = '


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (FILE, "'strategy.top_p' = 200"),
        ("[tune.search]\nstrategy.top = [5]", "unknown key 'strategy.top'"),
        ("[tune.search]\ntune = 3", "expected a list of values"),
        (f"[tune.search]\n{RANGE}[]", "expected a list of values"),
        (f"[tune.search]\n{RANGE}[0.1, 0.1]", "has a value twice"),
        (f"[tune.search]\n{RANGE}{{ low = 0.1, high = 0.01 }}", "of which high is the larger"),
        (f"[tune.search]\n{RANGE}{{ low = 0.1, high = nan }}", "of which high is the larger"),
        (f"[tune.search]\n{RANGE}{{ low = 0.0, high = 0.1, log = true }}", "low = 0.0 has no logarithm"),
        (f"[tune.search]\n{RANGE}{{ low = 0.1 }}", "'high' is missing"),
        (f"[tune.search]\n{RANGE}{{ low = 1, high = 20 }}", "'strategy.global_learning_rate' = 20"),
        ("[tune.search]\nrun.seed = [1, 2]", "'run.seed' is set by the search itself"),
        ('[tune]\nkeys = ["run.rounds"]', "'run.rounds' has no default range"),
        ("[tune]\nseeds = []", "'tune.seeds' = []"),
        ("[tune]\nseeds = [1, 1]", "names one twice"),
        ('[tune]\nobjectives = ["bytes"]', "chosen by 'score'"),
        ('[tune]\nobjectives = ["accuracy"]', "'accuracy'"),
        ("[tune]\nbudget = 3", "unknown key 'tune.budget'"),
        ("[search]", "unknown key 'search'"),
        ("", "'tune' is missing"),
        ("[tune", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_searched_is_refused_by_its_key(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(content)
    experiment = tmf.load(SINE)
    with pytest.raises(tmf.TuneError) as refusal:
        search_space.read(path, experiment.spec, lambda settings: tmf.load(SINE, dict(settings)))
    assert words in str(refusal.value) and str(path) in str(refusal.value)


def default_space(file: Path, **changes: str) -> dict[str, search_ranges.Range | search_ranges.Choice]:
    """What is searched without a file, in an experiment with changed keys of [strategy]."""
    given = {f"strategy.{key}": value for key, value in changes.items()}
    made = tmf.load(file, given)
    return dict(search_space.default_file(made.spec, lambda settings: tmf.load(file, given | dict(settings))).space)


def test_keys_that_do_nothing_are_not_searched() -> None:
    assert set(default_space(SINE)) == set(tmf.TUNE_RANGES)
    assert not {"strategy.local_passes", "strategy.global_passes", "adaptation.local_passes"} & set(
        default_space(SINE, kind="fedsgd")
    )
    assert set(default_space(SINE, kind="tinyol")) == {"adaptation.local_learning_rate", "adaptation.local_passes"}


def test_values_that_the_experiment_cannot_have_are_not_searched() -> None:
    space = default_space(SINE, uplink="i4", uplink_coding="range", downlink="i4", downlink_coding="range")
    assert space["strategy.downlink"] == search_ranges.Choice(("i4", "i8"))  # the range code takes whole numbers
    assert default_space(SINE)["strategy.downlink"] == search_ranges.Choice(("f16", "i8", "f32"))


def test_without_the_library_the_command_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(tmf.TuneError, match=r"needs the library optuna; install it with: pip install 'tinymetafed\[tune\]'"):
        tmf.tune(tmf.load(SINE), trials=1, out=tmp_path / "out", progress=False)


def test_another_folder_is_not_taken(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'tinymetafed[tune]'")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(tmf.TuneError, match="exists already and is not the folder of a search; choose another folder with -o"):
        tmf.tune(tmf.load(SINE), trials=1, out=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def row(number: int, score: float, bytes_: int, ram: int, metric: Metric = Metric.ACCURACY) -> Row:
    return Row(number, {"strategy.top_p": number}, Figures(metric, Spread(score, None, None), bytes_, ram, 1))


def test_the_front_has_what_no_other_trial_surpasses() -> None:
    known = [row(1, 0.9, 100, 10), row(2, 0.9, 90, 10), row(3, 0.8, 95, 10), row(4, 0.7, 95, 9), row(5, 0.9, 90, 10)]
    known.append(Row(6, {}, None, "diverged"))
    assert [each.number for each in trial_table.front(known, ("score", "bytes"))] == [2]
    assert [each.number for each in trial_table.front(known, ("score", "bytes", "ram"))] == [2, 4]
    chosen = trial_table.best(known)
    assert chosen is not None and chosen.number == 2
    shown = trial_table.cells(known, ("score", "bytes", "ram"))
    assert [cells[:3] for cells in shown] == [
        ["best", "2", "90.0"], ["", "5", "90.0"], ["", "1", "90.0"], ["", "3", "80.0"], ["*", "4", "70.0"], ["", "6", "–"],
    ]  # fmt: skip
    errors = [row(1, 0.4, 100, 10, Metric.MSE), row(2, 0.3, 100, 10, Metric.MSE)]
    assert [each.number for each in trial_table.front(errors, ("score",))] == [2]
    assert trial_table.best([]) is None and trial_table.plot([], ("score",)) is None


def test_the_command_has_its_ranges_in_its_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "argv", ["tinymetafed", "tune", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = " ".join(capsys.readouterr().out.split())
    for key, text in tmf.TUNE_RANGES.items():
        assert f"{key}: {text}" in shown
