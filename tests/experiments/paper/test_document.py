"""The document has measured beside published figures and a verdict for each step, and names what was not run."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_values import evaluation, header, run_result
from small_runs import SINE, Quiet

import tinymetafed as tmf
from tinymetafed.bench import BenchError
from tinymetafed.experiments import SweepError, paper, sweep
from tinymetafed.experiments.budget import Outcome
from tinymetafed.experiments.figure import decades
from tinymetafed.experiments.paper import claims, document, hardware, parts, shots, size, tried_rates
from tinymetafed.experiments.paper.ablation import verdict
from tinymetafed.experiments.paper.hardware import Estimate
from tinymetafed.experiments.paper.measured import USE_CASES, Measured, difference
from tinymetafed.experiments.paper.parts import Part
from tinymetafed.experiments.paper.published import ABLATION, FINE_TUNING, NANO_33_BLE, SHOTS, WEIGHTS, Step
from tinymetafed.experiments.sweep import Row
from tinymetafed.experiments.sweep.spread import Spread
from tinymetafed.federation.result import DCurve
from tinymetafed.learn.comparisons import paired
from tinymetafed.learn.metric import Metric
from tinymetafed.runs.run_data import RunData
from tinymetafed_codegen.errors import UsageError

SWEEP = SINE.parent / "sweeps" / "omniglot.toml"
CURVE = DCurve(
    metric=Metric.ACCURACY,
    samples="labelled samples per class",
    d=(0, 1, 2, 4, 8, 16),
    mean=(0.2, 0.6, 0.7, 0.8, 0.9, 0.951),
    ci95=(None,) * 6,
    n_tasks=20,
    n_clients=20,
)
FIRST, LATER = Step("TinyReptile", 91.4, 1), Step("+ schedule", 90.6, 0.35)


def row(cell: sweep.Cell, scores: list[float], bytes_: float) -> Row:
    """A row of the table, as of three seeds."""
    spread, by_seed = Spread.of(scores), dict(enumerate(scores, 1))
    course = [evaluation(round_, 0.5 + round_ / 1e4) for round_ in (300, 600)]
    begun, result = header(cell.experiment, ""), run_result("accuracy", 0.2, 0.9, d_curve=CURVE)
    runs = {seed: RunData(Path(), begun, [], [], course, None, result, np.zeros(1, np.float32)) for seed in by_seed}
    return Row(cell, Metric.ACCURACY, 3, by_seed, Spread.of([]), spread, bytes_, bytes_ / 2, 0.0, 0.5, runs, [])


def measured() -> Measured:
    planned = sweep.load(SWEEP)
    rows = {c.name: row(c, [0.9 + i / 1000, 0.91, 0.92], 9000.0 - 100 * i) for i, c in enumerate(planned.cells)}
    return Measured("Omniglot", planned, rows)


def with_scores(**scores: list[float]) -> Measured:
    """Rows with these scores, by the first letters of their names."""
    planned = sweep.load(SWEEP)
    names = {"ours": "TinyMetaFed P25 i8/f16", "base": "TinyReptile f32", "floor": "local-only"}
    cells = {cell.name: cell for cell in planned.cells}
    return Measured("Omniglot", planned, {names[key]: row(cells[names[key]], found, 9000.0) for key, found in scores.items()})


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([-0.008, -0.007, -0.009], "yes"),  # the paper has -0.8
        ([0.02, 0.021, 0.022], "no, better"),
        ([-0.05, -0.051, -0.052], "no, worse"),
        ([-0.10, 0.10, 0.05], "undecided"),  # an interval this wide allows no verdict
        ([0.05], "undecided"),  # a single seed has no interval
        ([], "not measured"),
    ],
)
def test_a_step_reproduces_within_a_point_and_is_undecided_within_the_interval(differences: list[float], word: str) -> None:
    assert verdict(paired(dict(enumerate(differences)), dict.fromkeys(range(9), 0.0)), LATER, FIRST) == word


def test_differences_are_those_of_the_same_seed() -> None:
    one, other = list(measured().rows.values())[:2]
    assert difference(one, other).mean == pytest.approx(-0.001 / 3) and difference(one, one).mean == 0


def test_the_documents_figures_come_from_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_measured", lambda title, name, *_: measured() if name == "omniglot" else missing(title))
    estimate = Estimate("i8 up, f16 down", 5000, 700, 0.6, 1_000_000, (1_100_000, 1_280_000), 64_000_000, 20_000)
    monkeypatch.setattr(hardware, "measure", lambda observer: [estimate])
    text = paper.write(tmp_path, tmp_path / "runs", 1, None, True, Quiet()).read_text()
    assert "This is a quick run: one seed, a 10th of the rounds" in text
    assert text.count("Not run: no archive there") == 6  # two use cases, the three parts and the sine waves
    assert "| + SGDR, P = 100 | 108,229 | 90.6 | 0.35 | 8,453 | 91.5 ± 1.3 | +0.1 |" in text
    assert "trains for 2.2 s; here it takes about 20 ms, and with the line 0.62 s" in text
    assert (
        "| TinyMetaFed i8 up, f16 down, here | 5,000 | 700 | 0.60 | 1,000,000 | 1,100,000 – 1,280,000 | 0.020 | 0.62 |" in text
    )
    assert "TinyMetaFed P25 i8/f16, here | 3 × 20 | 20.0 ± 0.0 | 60.0 ± 0.0 |" in text
    assert "have a constant α of 0.2;\nSGDR starts at 0.5 in each of 5 cycles, 0.1 lower each time." in text
    assert text.count("| TinyReptile f32, online |") == 2  # in the table of methods and in that of bytes
    assert "| Omniglot | TinyMetaFed P25 i8/f16 against centralised |" in text
    assert "| centralised | 91.1 ± 2.2 | -0.1 ± 0.3 | 60.0 | – | – | – | 2 | 3 of 3 |" in text, "no weights travel there"
    for name in ("pareto", "convergence"):
        ElementTree.parse(tmp_path / "paper" / f"{name}.svg")


def missing(title: str) -> Measured:
    return Measured(title, sweep.load(SWEEP), {}, "no archive there")


def test_a_document_without_measurements_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(observer: object) -> list[Estimate]:
        raise BenchError("no emulator here")

    monkeypatch.setattr(document, "_measured", lambda title, *_: missing(title))
    monkeypatch.setattr(hardware, "measure", nothing)
    text = paper.write(tmp_path, tmp_path / "runs", 1, None, False, Quiet()).read_text()
    assert "Ours not measured: no emulator here" in text and "Not drawn: Omniglot was not run." in text
    assert "quick run" not in text and not (tmp_path / "paper").exists()


def test_a_claim_has_its_seeds_its_test_and_a_verdict_after_the_correction_for_all_of_them() -> None:
    noise = [0.01, -0.01, 0.002, -0.002, 0.005, -0.005, 0.0, 0.0]
    clear = with_scores(ours=[0.92 + x for x in noise], base=[0.89 + x / 2 for x in noise], floor=[0.915 - x for x in noise])
    found = claims.claims({case.key: clear if case.key == "omniglot" else missing("") for case in USE_CASES}, missing(""))
    assert [(claim.text, claim.seeds, claim.difference, claim.corrected, claim.verdict) for claim in found] == [
        ("TinyMetaFed P25 i8/f16 against TinyReptile f32", 8, "+3.0 ± 0.3", "< .001", "better"),
        ("TinyMetaFed P25 i8/f16 against local-only", 8, "+0.5 ± 1.0", ".282", "undecided"),
    ]
    worse = with_scores(ours=[0.90 + x for x in noise], base=[0.92 + x / 2 for x in noise])
    (claim,) = claims.claims({case.key: worse if case.key == "omniglot" else missing("") for case in USE_CASES}, missing(""))
    assert claim.verdict == claims.WORSE


def test_a_table_of_rates_says_which_setting_is_best_and_which_one_is_used() -> None:
    planned = sweep.load(SWEEP.with_name("baselines-omniglot.toml"))
    tried = [cell for cell in planned.cells if tried_rates.method_of(cell.name) == "local-only"]
    rows = {cell.name: row(cell, [0.5 + i / 100, 0.6], 0.0) for i, cell in enumerate(tried)}
    used = {cell.name: cell for cell in sweep.load(SWEEP).cells}
    table = tried_rates.table(USE_CASES[0], Measured("", planned, rows), used)
    (line,) = table.lines
    assert line.best == "full_passes=100, full_learning_rate=0.02" and len(line.settings) == 6
    assert line.settings[0] == ("full_passes=10, full_learning_rate=0.01", "55.0 ± 63.5")
    assert tried_rates.method_of("TinyReptile f32, online, alpha_max=0.5") == "TinyReptile f32, online"


def test_every_method_that_is_tuned_has_six_settings_of_which_the_tables_use_one() -> None:
    for case in USE_CASES:
        if not case.tuning:
            continue
        tuned, used = (sweep.load(SWEEP.with_name(f"{name}.toml")) for name in (case.tuning, case.sweep))
        assert (tuned.group, used.group, len(used.seeds)) == ("validation", "test", 8)
        rows = {cell.name: row(cell, [0.9, 0.9, 0.9], 0.0) for cell in tuned.cells}
        moving = {f"{cell.name}, drawings move": cell for cell in sweep.load(SWEEP.with_name("omniglot-moving.toml")).cells}
        lines = tried_rates.table(case, Measured("", tuned, rows), {cell.name: cell for cell in used.cells} | moving).lines
        assert len(lines) == 11 and {len(line.settings) for line in lines} == {6}
        assert [line.method for line in lines if line.used == "–"] == []


def test_a_part_is_written_into_the_document_and_the_rest_of_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def some(title: str, name: str, *_: object) -> Measured:
        asked.append(name)
        return missing(title)

    monkeypatch.setattr(document, "_measured", some)
    page = tmp_path / "paper.md"
    with pytest.raises(SweepError, match=r"paper\.md: no such document .* tinymetafed paper -o "):
        paper.write(tmp_path, tmp_path / "runs", 1, None, False, Quiet(), Part.RATES)
    page.write_text(f"before\n{parts.marked(Part.SIZE, 'sizes')}between\n{parts.marked(Part.RATES, 'former')}after\n")
    paper.write(tmp_path, tmp_path / "runs", 1, None, False, Quiet(), Part.RATES)
    text = page.read_text()
    assert asked == ["baselines-omniglot"], "only its own sweep runs"
    assert text.startswith(f"before\n{parts.marked(Part.SIZE, 'sizes')}between\n") and text.endswith("after\n")
    assert "former" not in text and "Not run: no archive there" in text
    with pytest.raises(SweepError, match=r"has no part 'moving'"):
        paper.write(tmp_path, tmp_path / "runs", 1, None, False, Quiet(), Part.MOVING)
    assert page.read_text() == text


def test_differences_at_each_number_of_samples_are_paired_and_corrected_together() -> None:
    def with_curves(name: str, ones: list[float]) -> Row:
        cell = next(cell for cell in sweep.load(SWEEP).cells if cell.name == name)
        found = row(cell, ones, 9000.0)
        for seed, one in enumerate(ones, 1):
            curve = replace(CURVE, mean=(0.2, one, *CURVE.mean[2:]))
            found.runs[seed] = replace(found.runs[seed], result=run_result("accuracy", 0.2, 0.9, d_curve=curve))
        return found

    rows = {
        "TinyReptile f32": with_curves("TinyReptile f32", [0.60, 0.70]),
        "TinyMetaFed P25 i8/f16": with_curves("TinyMetaFed P25 i8/f16", [0.64, 0.72]),
    }
    cases = {case.key: Measured("", sweep.load(SWEEP), rows if case.key == "omniglot" else {}) for case in USE_CASES}
    apart, tests = shots.differences(cases)
    assert tests == 5, "nothing has adapted at D = 0"
    assert [(line.name, line.clients, line.cells[:3]) for line in apart] == [
        ("Omniglot: TinyMetaFed P25 i8/f16 against TinyReptile f32", "2 × 20", ["–", "+3.0 ± 12.7", "+0.0 ± 0.0"])
    ]
    rows["TinyMetaFed P25 i8/f16"] = with_curves("TinyMetaFed P25 i8/f16", [0.63, 0.73])
    assert shots.differences(cases)[0][0].cells[1] == r"+3.0 ± 0.0 \*", "the same in both seeds"
    assert [line.cells[1] for line in shots.lines(cases) if line.name.endswith("here")] == ["65.0 ± 63.5", "68.0 ± 63.5"]


def test_an_unknown_part_and_a_part_of_a_quick_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--part tables: expected one of rates, moving, size, shots"):
        tmf.paper(tmp_path, part="tables", progress=False)
    with pytest.raises(UsageError, match="leave out either the part or quick"):
        tmf.paper(tmp_path, part="rates", quick=True, progress=False)


def test_networks_of_both_sizes_stand_beside_each_other_with_what_fits_a_board() -> None:
    planned = sweep.load(SWEEP.with_name("paper-size.toml"))
    rows = {cell.name: row(cell, [0.9, 0.91, 0.92], 8000.0) for cell in planned.cells}
    plan = size.CASES[0].plan
    outcomes = [
        Outcome(case, ("dense25",), 17_141, 190_516, 1_000, 0.5 + case.seed / 100, 4000.0 if case.rounds else None)
        for case in plan.cases()
    ]
    found = Measured("", planned, rows)
    drawings, keywords = size.tables(found, {"omniglot": outcomes})
    by_name = {line.name: line for line in drawings.lines}
    whole, fits = by_name["papers' size, TinyReptile f32"], by_name["papers' size, TinyMetaFed P25 i8/f16, 192KB, from a start"]
    assert (whole.weights, whole.fits, whole.bytes, whole.clients) == ("108,181", "no", "1,500", "4,800")  # of 8 devices
    assert (fits.weights, fits.fits, fits.bytes, fits.share) == ("17,141", "yes", "500", "0.333")
    assert (fits.accuracy, fits.clients) == ("52.0 ± 2.5", "1,600 + 800")
    assert by_name["small, TinyReptile f32"].fits == "yes" and len(keywords.lines) == 4
    compared = size.tested(found, {"omniglot": outcomes})
    assert [claim.case for claim in compared].count("Omniglot") == 3
    assert {claim.verdict for claim in compared} == {"undecided: too few seeds (3 of 8)"}


def test_axis_ticks_are_round_numbers() -> None:
    assert [text for _, text in decades([3.9, 6.1])] == ["10 kB", "20 kB", "50 kB", "100 kB", "200 kB", "500 kB", "1 MB"]


def test_published_figures_are_complete() -> None:
    assert {len(steps) for steps in ABLATION.values()} == {5} and {len(c) for c in FINE_TUNING.values()} == {len(SHOTS)}
    assert [round(one.seconds, 1) for one in NANO_33_BLE] == [18.7, 12.6, 6.9]
    assert WEIGHTS.keys() == ABLATION.keys()
