"""Sweeps by which something is chosen score validation clients, and compare rows seed by seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import SINE, Quiet

from tinymetafed.api.many_runs import sweep_table
from tinymetafed.experiments import SweepError, sweep
from tinymetafed.experiments.sweep.table import HEADINGS, comparisons, scored
from tinymetafed.federation.meta_test import confidence
from tinymetafed.learn.client_groups import ClientGroup
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run

SWEEP = f"""
experiment = "{SINE}"
seeds = [1, 2]
group = "validation"
baseline = "16 passes, rounds=2, every=0, tasks=6"
[grid]
run.rounds = [2]
evaluation.every = [0]
evaluation.tasks = [6]
[[variant]]
name = "16 passes"
[[variant]]
name = "two passes"
set = {{ adaptation.full_passes = 2 }}
[[variant]]
name = "32 passes"
set = {{ adaptation.full_passes = 32 }}
"""
BASELINE = "16 passes, rounds=2, every=0, tasks=6"


def test_a_sweep_scores_validation_clients_and_compares_with_its_baseline(tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(SWEEP)
    planned = sweep.load(file)
    for run in planned.runs:  # in this process
        training.simulate(set_up(run.experiment, str(run.cell.source), None), 1, tmp_path / "out" / run.folder, Quiet())
    table = sweep_table(planned, tmp_path / "out", {})
    for row in table.rows:
        assert {final.group for final in row.finals.values()} == {ClientGroup.VALIDATION}
        assert len(row.scores) == 2
    result = read_run(tmp_path / "out" / planned.runs[0].folder).result
    assert result is not None and result.meta_test.group is ClientGroup.VALIDATION
    base, few, many = table.rows
    assert base.compared is None and few.compared is not None and many.compared is not None
    assert few.compared.difference.mean == pytest.approx(sum(few.scores[seed] - base.scores[seed] for seed in (1, 2)) / 2)
    p, q = few.compared.difference.p, many.compared.difference.p
    assert p is not None and q is not None and few.compared.adjusted is not None
    assert few.compared.adjusted == pytest.approx(min(1, 2 * p if p <= q else max(p, 2 * q)))
    assert few.compared.verdict == "undecided: too few seeds (2 of 8)"
    assert scored(table.rows) == "each run scores 6 tasks of validation clients, of 6 independent clients"
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "of validation clients" in text and f"Against {BASELINE}, seed by seed" in text and "Holm's" in text
    assert len(comparisons(table.rows)) == 3 and len(table.cells()[0]) == len(HEADINGS)
    plain = json.loads(json.dumps([row.as_json() for row in table.rows]))
    assert (plain[1]["n_tasks"], plain[1]["n_independent_by_seed"], plain[1]["unit"]) == (6, {"1": 6, "2": 6}, "client")
    assert plain[1]["group"] == "validation" and plain[1]["compared"]["baseline"] == BASELINE
    curve, *others = table.curves  # over seeds, as a sweep that leaves nobody out has no groups
    found = [run.result.d_curve for run in base.runs.values() if run.result is not None]
    at_4 = [each.mean[each.d.index(4)] or 0 for each in found]
    assert (curve.name, curve.unit, len(others)) == (BASELINE, "seeds", 2) and len(found) == 2
    assert curve.at(4).mean == pytest.approx(sum(at_4) / 2) and curve.at(4).ci95 == pytest.approx(confidence(at_4))
    gains = [(final.after or 0) - (final.before or 0) for final in base.finals.values()]
    assert curve.gain.mean == pytest.approx(sum(gains) / 2) and "over seeds" in text
    assert json.loads(json.dumps(curve.as_json()))["scores"]["1"]["4"] == at_4[0]


def test_a_wrong_group_or_baseline_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    for change, why in (
        (
            ('baseline = "16 passes, ', 'baseline = "17 passes, '),
            "baseline = '17 passes, .*' is not a row of this sweep",
        ),
        (("adaptation.full_passes = 2", 'evaluation.group = "test"'), "evaluation.group cannot be set.*write group = "),
        (('group = "validation"', 'group = "training"'), "group"),
    ):
        file.write_text(SWEEP.replace(*change))
        with pytest.raises(SweepError, match=why):
            sweep.load(file)
