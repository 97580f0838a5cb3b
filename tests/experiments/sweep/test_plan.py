"""Sweep files: errors name variant and key before anything runs; a valid file gives variants x grid x seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SINE

from tinymetafed.experiments import SweepError, sweep
from tinymetafed.experiments.sweep import Sweep


def planned(folder: Path, text: str) -> Sweep:
    file = folder / "tried.toml"
    file.write_text(text)
    return sweep.load(file)


HEAD = f'experiment = "{SINE}"\nseeds = [1, 2]\n'


def test_cells_are_variants_times_grid(tmp_path: Path) -> None:
    chosen = planned(
        tmp_path,
        HEAD
        + """
        [grid]
        strategy.top_p = [10, 25]
        "strategy.uplink" = ["i8", "f16"]
        [[variant]]
        name = "as it is"
        [[variant]]
        name = "two local layers"
        set = { "model.layers.1.local" = true, run.rounds = 7 }
        """,
    )
    assert [cell.name for cell in chosen.cells[:3]] == [
        "as it is, top_p=10, uplink=i8",
        "as it is, top_p=10, uplink=f16",
        "as it is, top_p=25, uplink=i8",
    ]
    assert len(chosen.cells) == 8 and len(chosen.runs) == 16 and len({run.folder for run in chosen.runs}) == 16
    last = chosen.runs[-1].experiment
    assert (last.strategy.top_p, last.strategy.uplink, last.run.rounds, last.run.seed) == (25, "f16", 7, 2)
    assert chosen.cells[-1].manifest.n_global < chosen.cells[0].manifest.n_global


def test_a_variants_own_grid_comes_in_place_of_the_files(tmp_path: Path) -> None:
    chosen = planned(
        tmp_path,
        HEAD
        + """
        grid = { strategy.top_p = [10, 25] }
        [[variant]]
        name = "one"
        [[variant]]
        name = "other"
        set = { run.rounds = 0 }
        grid = { adaptation.full_passes = [1, 2, 3] }
        """,
    )
    names = ["one, top_p=10", "one, top_p=25", "other, full_passes=1", "other, full_passes=2", "other, full_passes=3"]
    assert [cell.name for cell in chosen.cells] == names


def test_experiments_are_found_beside_the_file_and_a_variant_may_have_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(SINE.read_text())
    chosen = planned(tmp_path, HEAD + '[[variant]]\nname = "own"\nexperiment = "own.toml"\n')
    assert chosen.cells[0].source == tmp_path / "own.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = [1]", r"'tried' has no experiment"),
        (f'experiment = "{SINE}"', r"'seeds' is missing"),
        (f'experiment = "{SINE}"\nseeds = [1, 1]', r"names one twice"),
        (f'experiment = "{SINE}"\nseeds = []', r"'seeds' = \[\]"),
        ('experiment = "lost.toml"\nseeds = [1]', r"'tried': .*lost\.toml: no such experiment file"),
        (HEAD + "[grid]\nstrategy.top_p = 10", r"grid\.strategy\.top_p = 10: expected a list"),
        (HEAD + "[grid]\nstrategy.top_p = [10, 101]", r"'top_p=101': .*'strategy\.top_p' = 101"),
        (HEAD + "[grid]\nrun.seed = [3]", r"run\.seed .* seeds = \[\.\.\.\]"),
        (HEAD + '[[variant]]\nname = "a"\nset = { strategy.topp = 3 }', r"'a': .*'strategy\.topp'; did you mean 'top_p'"),
        (
            HEAD + '[[variant]]\nname = "a"\nset = { "model.layers.9.local" = true }',
            r"'a': model\.layers\.9\.local: 9 is not",
        ),
        (HEAD + '[[variant]]\nname = "a"\nset = { "strategy.kind" = "x.py:No" }', r"'a': .*x\.py"),
        (HEAD + '[[variant]]\nname = "a b"\n[[variant]]\nname = "a/b"', r"'a b' and 'a/b' would share the folder a-b"),
        (HEAD + '[[varant]]\nname = "a"', r"unknown key 'varant'; did you mean 'variant'"),
        (
            HEAD + '[grid]\nrun.rounds=[1]\n[[variant]]\nname="a"\nset = {run.rounds=2}',
            r"'a': run\.rounds is in the grid as well",
        ),
        ("seeds = [", r"not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_variant_and_key(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=said) as refused:
        planned(tmp_path, text)
    assert str(tmp_path / "tried.toml") in str(refused.value)
