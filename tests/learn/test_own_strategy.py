"""The user's strategy that docs/strategies.md shows works unchanged."""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from small_runs import SINE, Quiet, manifest

from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.strategies.own_strategy import OwnStrategy, OwnStrategyError
from tinymetafed.runs import training
from tinymetafed.runs.run_errors import StoreError
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import load

DOCUMENT = find("docs/strategies.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The block of the part about a strategy of one's own."""
    (part,) = re.findall(r"(?ms)^## A strategy of your own\n(.*?)(?=^## |\Z)", DOCUMENT)
    (found,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", part)
    return str(found)


def test_the_shown_strategy_takes_the_median(tmp_path: Path) -> None:
    (tmp_path / "median.py").write_text(block("python"))
    head = SINE.read_text().partition("[strategy]")[0]
    (tmp_path / "experiment.toml").write_text(head + block("toml"))
    experiment = load(tmp_path / "experiment.toml", ["run.rounds=2", "evaluation.tasks=1"])
    chosen = open_strategy(experiment, manifest(experiment))
    assert experiment.run.devices_per_round == 5 and chosen.top_k == chosen.n_global
    deltas = [Sparse(np.array([7]), np.array([value], np.float32)) for value in (1.0, -3.0, 1000.0)]
    moved = chosen.update(np.zeros(chosen.n_global, np.float32), deltas, 0)
    assert moved.dtype == np.float32 and moved[7] == 0.25 and np.count_nonzero(moved) == 1  # share and α: 0.5 each
    result = training.simulate(set_up(experiment, "own", None), 1, tmp_path / "run", Quiet())
    assert result.rounds == 2 and len(re.findall(r"(?m)^.*\S.*$", block("python"))) <= 20


def test_a_strategys_file_hides_no_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "statistics.py").write_text(block("python"))
    experiment = load(SINE, [f"strategy.kind={tmp_path / 'statistics.py'}:Median"])
    own = open_strategy(experiment, manifest(experiment))
    assert isinstance(own, OwnStrategy) and own.user_class.__name__ == "Median"
    assert sys.modules["statistics"] is statistics


class Impatient(Quiet):
    """Interrupts a run after its first round."""

    def advance(self) -> None:
        raise KeyboardInterrupt


def test_a_run_is_not_continued_with_other_code(tmp_path: Path) -> None:
    (tmp_path / "median.py").write_text(block("python"))
    (tmp_path / "experiment.toml").write_text(SINE.read_text().partition("[strategy]")[0] + block("toml"))
    experiment = load(tmp_path / "experiment.toml", ["run.rounds=4", "evaluation.tasks=1"])
    with pytest.raises(KeyboardInterrupt):
        training.simulate(set_up(experiment, "own", None), 1, tmp_path / "run", Impatient())
    (tmp_path / "median.py").write_text(block("python").replace("np.median", "np.mean"))
    with pytest.raises(StoreError, match=r"median\.py:Median' has changed since"):
        training.resume_simulated(tmp_path / "run", 1, Quiet())
    (tmp_path / "median.py").write_text(block("python"))
    assert training.resume_simulated(tmp_path / "run", 1, Quiet()).rounds == 4


FAULTY = """import numpy as np
from tinymetafed import TinyMetaFed

class Faulty(TinyMetaFed):
"""


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def update(self, weights, deltas, round_): return weights / len(self.none)", r"AttributeError: .*update\(round_=0\)"),
        ("def clients(self, round_, of): raise SystemExit('no')", r"SystemExit: no \(in Faulty\.clients\(round_=0, of="),
        ("def clients(self, round_, of): return 3", r"clients\(round_=0, of=\d+\) gives 3, expected a list of whole numbers"),
        ("def training(self): return None", r"training\(\) gives None, expected a tuple of phases"),
        ("def adaptation(self, count): return [count]", r"adaptation\(count=\d+\) gives \[\d+\], expected a tuple of phases"),
        ("def alpha(self, round_): return 'a lot'", r"TypeError: .*\(in Faulty\.update\(round_=0\)\)"),
        ("def download(self, weights): return 1 // 0", r"ZeroDivisionError: .*\(in Faulty\.download\(\)\)"),
        ("top_k = property(lambda self: self.none)", r"AttributeError: "),
        ("def __init__(self, *both): raise ValueError('no start')", r"ValueError: no start \(in Faulty\.__init__\(\)\)"),
    ],
)
def test_an_error_in_a_users_strategy_names_file_and_line(method: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY + f"    {method}\n")
    experiment = load(SINE, [f"strategy.kind={tmp_path / 'faulty.py'}:Faulty", "run.rounds=2", "evaluation.tasks=1"])
    with pytest.raises(OwnStrategyError, match=rf"(?s)faulty\.py:[45]: .*{message}"):
        training.simulate(set_up(experiment, "own", None), 1, tmp_path / "run", Quiet())
