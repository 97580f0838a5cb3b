"""Statistics over few seeds, and the cost as the papers count it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SINE

from tinymetafed.experiments import sweep
from tinymetafed.experiments.sweep.spread import Spread
from tinymetafed.runs.run_figures import values_only_cost


def test_few_seeds_have_students_interval() -> None:
    spread = Spread.of([1.0, 2.0, 3.0])
    assert (spread.mean, spread.sd) == (2.0, 1.0) and spread.ci95 == pytest.approx(4.30265273 / 3**0.5)
    assert Spread.of([1.0]) == Spread(1.0, None, None) and Spread.of([]) == Spread(None, None, None)
    assert Spread.of([1.0, float("nan")]).mean is None
    for seeds, t in ((22, 2.07961384), (100, 1.98421695)):
        many = Spread.of([0.0, 1.0] * (seeds // 2))
        assert many.sd is not None and many.ci95 == pytest.approx(t * many.sd / seeds**0.5)


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ("strategy.kind = 'tinyreptile', strategy.top_p = 100", 1.0),
        ("strategy.kind = 'reptile', strategy.top_p = 100", 5.0),
        ("strategy.top_p = 100", 1120 / 1153),
        ("strategy.top_p = 50", 1120 / 1153 * 0.75),
        ("run.rounds = 0", 0.0),
    ],
)
def test_the_papers_cost_counts_values_alone(change: str, cost: float, tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(f'experiment = "{SINE}"\nseeds = [1]\n[[variant]]\nname = "one"\nset = {{ {change} }}\n')
    (cell,) = sweep.load(file).cells
    assert values_only_cost(cell.experiment, cell.manifest) == pytest.approx(cost)


def test_the_example_sweeps_are_valid() -> None:
    for file in sorted((SINE.parent / "sweeps").glob("*.toml")):
        assert len(sweep.load(file).runs) >= 3, file
