"""The report: self-contained, escaped, with the run's figures; unfinished, diverged and damaged runs are marked as such."""

from __future__ import annotations

import math
import re
import sqlite3
import tomllib
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_values import (
    DEVICE,
    contribution,
    evaluation,
    header,
    round_entry,
    run_result,
    session,
)

from tinymetafed.federation.result import CurveExample, Evaluation, ScatterExample
from tinymetafed.learn.metric import Metric
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import charts, report, store, store_format
from tinymetafed.runs.journal import Entry, RoundEntry, RunHeader, RunResult
from tinymetafed.runs.report import comparison_page, run_page, score_charts
from tinymetafed.runs.run_data import StoreError
from tinymetafed_codegen import spec
from tinymetafed_codegen.spec import Experiment, LossName

SINE = """
[task]
kind = "sine"
[model]
input = [1]
loss = "mse"
layers = [ { op = "dense", units = 32, activation = "relu" }, { op = "dense", units = 1, local = true } ]
[run]
rounds = 40
seed = 3
"""
OMNIGLOT = """
[task]
kind = "omniglot"
[model]
input = [28, 28, 1]
loss = "softmax_cross_entropy"
layers = [ { op = "conv2d", filters = 4, kernel = 3, stride = 2 }, { op = "flatten" },
  { op = "dense", units = 5, local = true } ]
[run]
rounds = 40
seed = 3
"""
FOLDER = """
[task]
kind = "folder"
path = "/data"
[model]
input = [3]
loss = "mse"
layers = [ { op = "dense", units = 8, activation = "relu" }, { op = "dense", units = 2, local = true } ]
[run]
rounds = 40
seed = 3
"""
VOID = {"wbr", "meta", "br", "hr", "img", "link", "input"}


def journal(rounds: int, streamed: int = 0) -> list[Entry]:
    """Two clients a round, an evaluation every ten rounds; MSE falls from 4 (or accuracy rises) to its end value."""
    entries: list[Entry] = []
    for i in range(rounds + 1):
        if i % 10 == 0:
            after = 0.5 + 0.01 * i if streamed else 4 / (1 + i)
            entries.append(evaluation(i, after, before=0.2 if streamed else 4.5, n_tasks=50))
        if i < rounds:
            entries.append(round_of(i, bytes_samples=streamed))
    return entries


def round_of(i: int, **changes: Any) -> RoundEntry:
    """A round of clients i and i + 1."""
    parts = (contribution(i), contribution(i + 1))
    usual = {"contributions": parts, "bytes_down": 4000, "bytes_up": 1000, "seconds": 1.875, "retries": 1}
    return round_entry(i, sha256(WEIGHTS), **(usual | changes))


def parsed(text: str) -> Experiment:
    return spec.parse(tomllib.loads(text), "test")


WEIGHTS = np.zeros(3, np.float32)


def write_run(folder: Path, text: str, entries: list[Entry], result: RunResult | None, first: RunHeader | None = None) -> Path:
    """Writes a run folder whose store holds the given entries."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.db").unlink(missing_ok=True)
    with closing(sqlite3.connect(folder / "run.db", isolation_level=None)) as database:
        database.executescript(store_format.SCHEMA)
        database.execute("PRAGMA synchronous = OFF")  # test data need not survive a power failure
        writer = store.RunStore(folder, database)
        writer.append(first or begun(text), WEIGHTS)
        for entry in [session(0), *entries]:
            writer.append(entry, WEIGHTS if isinstance(entry, RoundEntry) else None)
        if result is not None:
            writer.append(result)
    return folder


def begun(text: str) -> RunHeader:
    """The header of a run of an experiment given as TOML text."""
    return header(parsed(text), sha256(WEIGHTS), experiment=text)


def sine_result() -> RunResult:
    example = CurveExample(
        client="y = 2.00 sin(x + 1.00)",
        x=(-5.0, -2.5, 0.0, 2.5, 5.0),
        truth=(1, -2, 0, 2, -1),
        before=(0, 0, 0, 0, 0),
        after=(1, -2, 0.5, 2, -1),
        samples_x=(-1.0, 3.0),
        samples_y=(-0.5, 1.5),
    )
    return run_result("mse", 4.5, 0.25, example=example)


def omniglot_result() -> RunResult:
    return run_result("accuracy", 0.2, 0.925, task="omniglot")


@pytest.fixture
def sine(tmp_path: Path) -> Path:
    return write_run(tmp_path / "waves", SINE, journal(40), sine_result())


@pytest.fixture
def omniglot(tmp_path: Path) -> Path:
    return write_run(tmp_path / "letters", OMNIGLOT, journal(40, streamed=80_000), omniglot_result())


class Page(HTMLParser):
    """A parsed page: its text and tags; fails on tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def lines(self, role: str) -> list[list[tuple[float, float]]]:
        """Points of the curves in one colour."""
        points = [str(a["points"]) for tag, a in self.tags if tag == "polyline" and a.get("class") == role]
        return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in one.split())] for one in points]


def page(run_dir: Path) -> Page:
    return Page(report.write(store.read_run(run_dir)).read_text(encoding="utf-8"))


# Whole runs


def test_a_finished_sine_run_shows_its_figures(sine: Path) -> None:
    shown = page(sine).text
    assert "waves" in shown and "40 of 40 rounds, seed 3" in shown and "unfinished" not in shown
    assert "0.25 ± 0.02 4.5 before; mean of 4 clients" in shown
    assert "1 min 15 s" in shown
    assert "00c0ffee" in shown and "4,096" in shown and "12,345" in shown and "9.8.7" in shown and "ab" * 32 in shown
    assert "A client never trained on, y = 2.00 sin(x + 1.00): before and after" in shown
    assert 'kind = "sine"' in shown


def test_splits_of_few_clients_and_predictions_against_true_values_are_shown(tmp_path: Path) -> None:
    drawn = ScatterExample("carol, split 1", true=(0.0, 1.0, 2.0), before=(0.5, 0.5, None), after=(0.0, 1.0, 2.0))
    said = run_result("mse", 4.5, 0.25, example=drawn)
    said = replace(said, meta_test=replace(said.meta_test, n_clients=1))
    shown = page(write_run(tmp_path / "own", FOLDER, journal(40), said))
    assert "mean of 4 splits of 1 client never trained on" in shown.text and "Your own data" in shown.text
    assert "A client never trained on, carol, split 1: predicted against true values" in shown.text
    chart = score_charts.example_chart(drawn)
    dots = {role: [(x, y) for of, x, y in chart.dots if of == role] for role in ("before", "after")}
    assert len(dots["before"]) == 2 and len(dots["after"]) == 3
    diagonal = [tuple(map(float, point.split(","))) for point in chart.lines[0][1].split()]
    assert diagonal == [dots["after"][0], dots["after"][2]]  # correct predictions lie on this line


def test_bytes_are_per_client_and_round_beside_the_dense_values(sine: Path) -> None:
    shown = page(sine).text
    assert "Bytes per client and round 2,500" in shown  # (4000 + 1000) bytes / 2 clients
    assert "weights, to the client 2,000 delta, from the client 500 dense float32, one way 256" in shown
    assert "488 % of dense float32 both ways" in shown  # 64 global weights: 2500 of 2 * 256
    assert "160.0 kB to clients, 40.0 kB from clients; 40 retries." in shown


def test_accuracy_is_in_percent_and_streamed_samples_are_apart(omniglot: Path) -> None:
    shown = page(omniglot)
    assert "92.5 ± 2.0 % 20.0 % before" in shown.text
    assert "% of dense float32 both ways and 40.0 kB of samples" in shown.text and "round 42,500" in shown.text
    assert "samples, both ways 40,000" in shown.text
    assert "Accuracy over labelled samples per class, 100 new clients." in shown.text
    assert len([a for tag, a in shown.tags if tag == "path" and a.get("class") == "whisker after"]) == 3


@pytest.mark.parametrize(
    ("loss", "scored"), [("mse", "mse"), ("softmax_cross_entropy", "accuracy"), ("binary_crossentropy", "accuracy")]
)
def test_pages_score_a_loss_as_its_task_does(loss: LossName, scored: str) -> None:
    assert Metric.of(loss) == scored


def test_best_worst_and_a_board_are_named(sine: Path) -> None:
    shown = page(sine).text
    assert "10 % are at 0.125 or below, 50 % are at 0.25 or below, 90 % are at 0.375 or below." in shown
    assert "best 17 an easy one 4.5 0.125" in shown and "worst 4 a hard one 4.5 diverged" in shown
    assert "Counted, never from a board." in shown and "Nano 0.25 s 0.01 to 0.02 s 0.26 to 0.27 s 1.2 to 3.4 mJ" in shown


def test_curves_follow_the_numbers(sine: Path, omniglot: Path) -> None:
    falling, rising = page(sine).lines("after"), page(omniglot).lines("after")
    learning = falling[0]
    assert len(learning) == 5 and [y for _, y in learning] == sorted(y for _, y in learning)  # y points downwards in SVG
    assert [y for _, y in rising[0]] == sorted((y for _, y in rising[0]), reverse=True)
    client = falling[3]
    truth = page(sine).lines("truth")[0]
    assert [after == true for after, true in zip(client, truth, strict=True)] == [True, True, False, True, True]
    for curve in falling + rising:
        assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in curve)


def test_the_memory_map_comes_from_the_manifest(sine: Path) -> None:
    shown, facts = page(sine), begun(SINE).manifest
    assert f"{facts.memory.ram_total:,} of {facts.memory.ram_available:,} bytes of RAM on native" in shown.text
    boxes = [a for tag, a in shown.tags if tag == "rect"]
    assert len(boxes) == len(facts.arena.tensors)
    for parameter in facts.parameters:
        assert parameter.name in shown.text


def test_the_page_needs_nothing_from_outside_and_runs_nothing(sine: Path) -> None:
    html = report.write(store.read_run(sine)).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|@import|url\(|\bsrc=|\bhref=|<script|\bon\w+=", html)


def test_a_long_run_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    entries: list[Entry] = [*(evaluation(i, 2.0) for i in range(0, 1310)), evaluation(1310, 1.0)]
    curve, _ = page(write_run(tmp_path, SINE.replace("40", "1310"), entries, None)).lines("after")
    assert len(curve) <= charts.MAX_POINTS + 1 and curve[-1][1] > curve[-2][1]


# Runs that are not whole


def test_an_unfinished_run_says_so_and_shows_what_there_is(tmp_path: Path) -> None:
    shown = page(write_run(tmp_path, SINE, journal(20), None))
    assert "This run is unfinished" in shown.text and "20 of 40 rounds" in shown.text
    assert "native#1 native 00c0ffee 4,096 40" in shown.text and "Bytes per client and round 2,500" in shown.text
    assert len(shown.lines("after")) == 2 and "95 %" not in shown.text


def test_a_single_evaluation_is_no_curve(tmp_path: Path) -> None:
    entries = [entry for entry in journal(40) if not isinstance(entry, Evaluation) or entry.round == 40]
    shown = page(write_run(tmp_path, SINE, entries, sine_result()))
    assert "evaluation.every" in shown.text and "rounds trained" not in shown.text


def test_a_run_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    assert "0 of 40 rounds" in page(write_run(tmp_path, OMNIGLOT, [], None)).text


def test_interruptions_and_faults_are_listed(tmp_path: Path, sine: Path) -> None:
    entries = journal(40)
    seventh, ninth, twentieth = (entries.index(round_of(i)) for i in (7, 9, 20))
    redone = contribution(8, "redone", "native#2: the line went away")
    skipped = contribution(9, "skipped", "its board 00c0ffee is not among the devices")
    entries[seventh] = round_of(7, contributions=(contribution(7), redone))
    entries[ninth] = round_of(9, contributions=(skipped, contribution(10)))
    entries.insert(twentieth, session(20, replace(DEVICE, url="native#2")))
    shown = page(write_run(tmp_path, SINE, entries, None)).text
    assert "Continued 1 times, 1 contributions redone after a first attempt was lost, 1 skipped." in shown
    assert "7 client 8 redone: native#2: the line went away 9 client 9 skipped: its board 00c0ffee" in shown
    assert "20 the run was continued" in shown
    assert "native#1 native 00c0ffee 4,096 79 native#2 native 00c0ffee 4,096 0" in shown
    assert "Interruptions" not in page(sine).text


def test_a_long_list_of_interruptions_is_cut(tmp_path: Path) -> None:
    entries: list[Entry] = [round_of(i, contributions=(contribution(3, "redone", "a reset"),) * 2) for i in range(40)]
    shown = page(write_run(tmp_path, SINE, entries, None)).text
    assert shown.count("client 3 redone: a reset") == run_page.MAX_EVENTS and "And 40 more." in shown


def test_missing_optional_figures_are_left_out(tmp_path: Path) -> None:
    given = sine_result()
    curve = replace(given.d_curve, ci95=(None,) * 3)
    given = replace(
        given,
        example=None,
        d_curve=curve,
        estimate=None,
        meta_test=replace(given.meta_test, after_ci95=None),
        instructions_per_step=None,
    )
    shown = page(write_run(tmp_path, SINE, journal(40)[:-1], given)).text.partition("What the figures count")[0]
    assert "MSE after adaptation 0.25 4.5 before" in shown and "Every held-out client" in shown
    for absent in ("A new client", "Interruptions", "Instructions per training step", "estimated", "±", "95 %"):
        assert absent not in shown


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    entries, given = journal(40), sine_result()
    entries[-1] = evaluation(40, None)
    assert isinstance(given.example, CurveExample)
    given = replace(
        given,
        meta_test=replace(given.meta_test, after=None, after_ci95=None, per_task=((4.5, None),) * 4),
        example=replace(given.example, after=(None,) * 5),
        d_curve=replace(given.d_curve, mean=(None,) * 3, ci95=(None,) * 3),
    )
    shown = page(write_run(tmp_path, SINE, entries, given))
    assert "Adaptation does not improve this model." in shown.text and "MSE after adaptation diverged" in shown.text
    assert [len(curve) for curve in shown.lines("after")] == [4, 4]  # the finite evaluations before the divergence


def test_a_collapsed_run_says_so_and_a_good_one_does_not(tmp_path: Path, sine: Path) -> None:
    given = omniglot_result()
    given = replace(given, meta_test=replace(given.meta_test, before=0.2, after=0.21))  # within the interval of ±0.02
    assert "Adaptation does not improve" in page(write_run(tmp_path, OMNIGLOT, journal(40, 10), given)).text
    assert "Adaptation does not improve" not in page(sine).text


# Several runs


def costly(folder: Path, experiment: str = SINE) -> Path:
    """A run like ``sine`` that sent ten times as many bytes and has better scores."""
    entries: list[Entry] = []
    for entry in journal(40):
        assert isinstance(entry, RoundEntry | Evaluation)
        entries.append(replace(entry, bytes_down=10 * entry.bytes_down, bytes_up=10 * entry.bytes_up))
    given = sine_result()
    given = replace(given, meta_test=replace(given.meta_test, after=0.125))
    return write_run(folder, experiment, entries, given)


SECOND = SINE.replace("seed = 3", "seed = 4").replace("[run]", "[strategy]\ntop_p = 100\n[run]")


def test_a_comparison_shows_the_journals_figures_and_what_differs(sine: Path, tmp_path: Path) -> None:
    other = costly(tmp_path / "costly", SECOND)
    assert report.compare([sine, other], tmp_path / "page.html") == []
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "2 runs: Sine waves" in shown.text and "Left out" not in shown.text
    heads = (
        "MSE, no federation before after bytes down bytes up of samples wire, first = 1 values only strategy. top_ p run. seed"
    )
    quarter, whole = (f"{64 / 97 * (1 + share) / 2:.2f}" for share in (0.25, 1.0))  # 64 of 97 weights are global
    assert f"run {heads} waves 5.2 4.5 0.25 ± 0.02 4,000 1,000 0 1.00 {quarter} 25.0 3" in shown.text
    assert f"costly 5.2 4.5 0.125 ± 0.02 40,000 10,000 0 10.00 {whole} 100.0 4" in shown.text
    assert "labelled samples run 0 1 8 waves 4.5 ± 0.01 2.38 ± 0.02 0.25 ± 0.01 costly" in shown.text
    assert "waves down 4,000 up 1,000 costly down 40,000 up 10,000" in shown.text
    assert "The arena of waves, costly" in shown.text and "waves, Nano 0.25 s" in shown.text
    assert "MB on the wire, both ways, logarithmic" in shown.text
    cheap, dear = shown.lines("run1"), shown.lines("run2")
    assert [len(curve) for curve in cheap] == [5, 4, 3] == [len(curve) for curve in dear]  # nothing was sent before round 0
    assert cheap[0] == dear[0]  # equal scores over rounds; over bytes, those of the costly run lie further right
    assert all(b[0] > a[0] and b[1] == a[1] for a, b in zip(cheap[1], dear[1], strict=True))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|@import|url\(|\bsrc=|\bhref=|<script|\bon\w+=", html)


def test_a_reader_is_not_misled_by_one_client_and_one_seed(omniglot: Path, tmp_path: Path) -> None:
    given = omniglot_result()
    one = replace(given.meta_test, n_clients=1)
    few = replace(given, meta_test=one, d_curve=replace(given.d_curve, n_clients=1))
    report.compare([omniglot, write_run(tmp_path / "few", OMNIGLOT, journal(40), few)], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = Page(html).text
    assert "few 40.0 % 20.0 % 92.5 % 4,000 1,000 0" in shown and "few 20.0 % 56.2 % 92.5 %" in shown  # no intervals
    assert html.count('class="whisker run1"') > 0 == html.count('class="whisker run2"')
    assert "trained with one seed only" in shown and "guessing one of 5 classes" in shown
    second = write_run(tmp_path / "second", OMNIGLOT.replace("seed = 3", "seed = 4"), journal(40), given)
    report.compare([omniglot, second], tmp_path / "seeds.html")
    assert "trained with 2 seeds or more" in Page((tmp_path / "seeds.html").read_text(encoding="utf-8")).text


def test_splits_of_a_client_count_once(tmp_path: Path) -> None:
    given = omniglot_result()
    per_task = ((0.2, 0.9), (0.2, 0.5), (0.2, 0.9), (0.2, 0.5))  # two clients in turn, each with two equal splits
    two = replace(given.meta_test, n_clients=2, per_task=per_task, after=0.7, after_ci95=0.01)
    expected = 12.706 * 0.2 * 100  # Student's t with one degree of freedom, times the standard error of 0.9 and 0.5
    assert f"70.0 ± {expected:.1f} %" in page(write_run(tmp_path, OMNIGLOT, journal(40), replace(given, meta_test=two))).text


def test_charts_of_one_page_have_the_same_y_axis(sine: Path, omniglot: Path, tmp_path: Path) -> None:
    for first, second in (
        (sine, costly(tmp_path / "costly", SECOND)),
        (omniglot, write_run(tmp_path / "twin", OMNIGLOT, journal(40), omniglot_result())),
    ):
        report.compare([first, second], tmp_path / "page.html")
        html = (tmp_path / "page.html").read_text(encoding="utf-8")
        ticks = re.findall(r'text-anchor="end">([^<]*)<', html)
        assert len(ticks) % 3 == 0 and ticks == ticks[: len(ticks) // 3] * 3
    assert ticks[0] == "0" and "100" in ticks


def test_what_no_federation_reaches_is_drawn(sine: Path, tmp_path: Path) -> None:
    given = sine_result()
    assert given.untrained is not None
    other = write_run(tmp_path / "other", SINE, journal(40), replace(given, untrained=replace(given.untrained, after=3.0)))
    report.compare([sine, write_run(tmp_path / "same", SINE, journal(40), given)], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(shown.lines("level untrained")) == 2  # over rounds and over bytes, where the number of samples is the same
    report.compare([sine, other], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(shown.lines("level run1")) == len(shown.lines("level run2")) == 2 and "other, no federation" in shown.text
    older = write_run(tmp_path / "older", SINE, journal(40), replace(given, untrained=None))
    assert not page(older).lines("level untrained") and page(sine).lines("level untrained")


def test_tables_scroll_and_words_stay_whole(sine: Path, tmp_path: Path) -> None:
    report.compare([sine, costly(tmp_path / "costly", SECOND)], tmp_path / "page.html")
    for html in (report.write(store.read_run(sine)).read_text(), (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert "overflow-wrap: anywhere" not in html and "word-break" not in html
        assert html.count("<table") == len(re.findall(r'<div class="scroll" tabindex="0"><table', html)) > 2
        assert "scroll sideways" in html


def test_accuracies_are_drawn_from_0_to_100_percent(omniglot: Path, tmp_path: Path) -> None:
    twin = write_run(tmp_path / "twin", OMNIGLOT, journal(40, streamed=80_000), omniglot_result())
    report.compare([omniglot, twin], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Accuracy of held-out clients, higher is better" in shown.text and "samples 80,000" in shown.text
    over_rounds, _, over_samples = shown.lines("run1")
    bottom, height = charts.HEIGHT - charts.BOTTOM, charts.HEIGHT - charts.BOTTOM - charts.TOP
    assert over_rounds[0][1] == bottom - 0.5 * height and over_samples[0][1] == pytest.approx(bottom - 0.2 * height, abs=0.1)


def test_bytes_of_one_magnitude_have_a_linear_axis(sine: Path, tmp_path: Path) -> None:
    report.compare([sine, write_run(tmp_path / "twin", SINE, journal(40), sine_result())], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "kB on the wire, both ways" in shown.text and "both ways, logarithmic" not in shown.text
    assert [len(curve) for curve in shown.lines("run1")] == [5, 5, 3]


def test_runs_that_are_not_whole_are_named_and_left_out(sine: Path, tmp_path: Path) -> None:
    going = write_run(tmp_path / "going", SINE, journal(20), None)
    damaged = costly(tmp_path / "damaged")
    content = (damaged / "run.db").read_bytes()
    (damaged / "run.db").write_bytes(content.replace(b"ab" * 32, b"ac" * 32, 1))
    left_out = report.compare([going, sine, damaged, costly(tmp_path / "costly")], tmp_path / "page.html")
    assert left_out[0] == f"{going}: not finished, 20 of 40 rounds so far" and len(left_out) == 2
    assert str(damaged) in left_out[1] and "damaged" in left_out[1]
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "2 runs" in shown and all(line in shown for line in left_out)
    assert shown.count("damaged") == left_out[1].count("damaged")
    with pytest.raises(report.ReportError, match=r"1 of 2 runs can be compared, two are needed; .*going: not finished"):
        report.compare([sine, going], tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_what_cannot_be_compared_is_refused(sine: Path, omniglot: Path, tmp_path: Path) -> None:
    with pytest.raises(report.ReportError, match=r"different tasks or metrics.*waves: sine, mse.*letters: omniglot, accuracy"):
        report.compare([sine, omniglot], tmp_path / "page.html")
    with pytest.raises(report.ReportError, match="given twice"):
        report.compare([sine, sine.parent / "." / sine.name], tmp_path / "page.html")


@given(st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=4))
def test_keys_differ_when_any_run_has_another_value_or_none(values: list[tuple[int, int, int]]) -> None:
    keys = ("run.rounds", "evaluation.tasks", "model.layers[0].units")
    experiments = []
    for rounds, tasks, units in values:
        text = SINE.replace("rounds = 40", f"rounds = {rounds}").replace("units = 32", f"units = {units}")
        experiments.append(parsed(f"{text}\n[evaluation]\ntasks = {tasks}"))
    found = comparison_page.differing(experiments)
    assert set(found) == {key for key, column in zip(keys, zip(*values, strict=True), strict=True) if len(set(column)) > 1}


# Text from outside


def test_all_text_from_outside_is_escaped(tmp_path: Path) -> None:
    hostile = "</pre><script>alert(1)</script>"
    given, entries = sine_result(), journal(40)
    entries.insert(0, session(0, replace(DEVICE, board=hostile, unique_id=hostile)))
    entries[2] = round_of(0, contributions=(contribution(0, "redone", hostile), contribution(1)))
    assert isinstance(given.example, CurveExample)
    given = replace(
        given,
        versions={hostile: hostile},
        weights_sha256=hostile,
        instructions_per_step={hostile: 1},
        example=replace(given.example, client=hostile),
    )
    first = begun(SINE)
    made = first.manifest
    arena = replace(
        made.arena,
        tensors=(replace(made.arena.tensors[0], name=hostile), *made.arena.tensors[1:]),
        steps=(hostile, *made.arena.steps[1:]),
    )
    parameters = (replace(made.parameters[0], name=hostile), *made.parameters[1:])
    first = replace(
        first,
        experiment=f"# {hostile}\n{SINE}",
        manifest=replace(made, board=hostile, arena=arena, parameters=parameters),
    )
    run_dir = write_run(tmp_path / "<b>&", SINE, entries, given, first)
    html = report.write(store.read_run(run_dir)).read_text(encoding="utf-8")
    assert "<script" not in html and "<b>&<" not in html and html.count("&lt;/script&gt;") >= 9
    assert "alert(1)" in Page(html).text


# Errors


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match="not a run folder") as caught:
            report.write(store.read_run(folder))
        assert str(folder) in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_damage_is_named_and_the_old_report_stays(sine: Path) -> None:
    before = report.write(store.read_run(sine)).read_bytes()
    content = (sine / "run.db").read_bytes()
    (sine / "run.db").write_bytes(content.replace(b"ab" * 32, b"ac" * 32, 1))
    with pytest.raises(StoreError, match="not what was written") as caught:
        report.write(store.read_run(sine))
    assert str(sine / "run.db") in str(caught.value)
    assert (sine / "report.html").read_bytes() == before
    assert {path.name for path in sine.iterdir()} == {"run.db", "report.html"}


# Axes


@given(st.floats(-100, 100), st.floats(0.1, 1e6))
def test_linear_ticks_are_round_few_and_in_place(low: float, span: float) -> None:
    axis = charts.Axis(low, low + span, 10, 400)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert [at for at, _ in ticks] == sorted(at for at, _ in ticks) and ticks[0][0] >= 10 and ticks[-1][0] <= 400
    for at, label in ticks:
        number = float(label.replace("−", "-").replace(",", ""))
        assert axis.at(number) == pytest.approx(at, abs=0.11)


@given(st.floats(1e-6, 1e3), st.floats(8, 1e6))
def test_logarithmic_ticks_stay_readable(low: float, ratio: float) -> None:
    ticks = charts.Axis(low, low * ratio, 224, 26, log=True).ticks()
    heights = [at for at, _ in ticks]
    assert len(ticks) >= 2 and all(26 <= at <= 224 for at in heights)
    assert all(lower - upper >= 12 for lower, upper in pairwise(heights))


_ANY = st.floats(allow_nan=False, allow_infinity=False)
_CONSTANT = _ANY.flatmap(lambda value: st.lists(st.just(value), min_size=1, max_size=3))
_NEGATIVE = st.lists(st.floats(max_value=0, allow_infinity=False), min_size=1, max_size=8)
_TINY = st.lists(st.floats(-1e-300, 1e-300), min_size=1, max_size=8)
_VALUES = st.lists(_ANY, min_size=1, max_size=8) | _CONSTANT | _NEGATIVE | _TINY


@given(_VALUES, st.data(), st.booleans(), st.booleans())
def test_every_point_lies_within_the_axes(ys: list[float], data: st.DataObject, log_x: bool, log_y: bool) -> None:
    x = st.floats(min_value=math.ulp(0), allow_infinity=False) if log_x else _ANY
    xs = data.draw(st.lists(x, min_size=len(ys), max_size=len(ys)) | x.map(lambda one: [one] * len(ys)))
    drawn = []
    built = charts.Axis

    def axis(*arguments: Any) -> charts.Axis:
        drawn.append(built(*arguments))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "Axis", axis)
        chart = charts.chart(
            [charts.Series("", "after", list(zip(xs, ys, strict=True)), dots=True)], "", "", "", log_x=log_x, log_y=log_y
        )
    for made, values, at in zip(drawn, (xs, ys), ([x for _, x, _ in chart.dots], [y for *_, y in chart.dots]), strict=True):
        assert made.low < made.high and math.isfinite(made.low) and math.isfinite(made.high)
        assert all(made.low <= value <= made.high for value in values), (made, values)
        near, far = sorted((made.start, made.end))
        assert all(near <= place <= far for place in at)
        assert 1 <= len(made.ticks()) <= 12 and all(near <= place <= far for place, _ in made.ticks())
        apart = max(values) / 2 - min(values) / 2 > (made.high / 2 - made.low / 2) / 20
        if apart and not made.log:
            assert (at[values.index(max(values))] > at[values.index(min(values))]) == (made.end > made.start)


def test_constant_and_negative_values_leave_room_beyond_the_extremes() -> None:
    for ys in ([-5.0, -5.0], [-5.0, -1.0], [-5.0], [0.0, 0.0], [5.0, 5.0]):
        chart = charts.chart([charts.Series("", "after", list(enumerate(ys)), dots=True)], "", "", "")
        assert len(chart.y_ticks) >= 2
        for _, _, y in chart.dots:
            assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM
    negative = charts.chart([charts.Series("", "after", [(0, -5.0), (1, -1.0)], dots=True)], "", "", "")
    low, high = (y for _, _, y in negative.dots)
    assert charts.TOP < high < low < charts.HEIGHT - charts.BOTTOM
    assert charts.chart([charts.Series("", "after", [])], "", "", "").dots == []
