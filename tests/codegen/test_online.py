"""With ``task.online`` a device trains on each sample of a round once; what would need a sample twice is refused by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs.report.wording import uses
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment, SpecError, dump, load, parse

ONLINE = "task.online=true"
TWICE = """
import tinymetafed as tmf


class Twice(tmf.TinyMetaFed):
    def training(self):
        return tuple(self.phase(tmf.Variant.FULL, tmf.SampleSet.SUPPORT, 1, 0.01) for _ in range(2))
"""


def example(name: str, *keys: str) -> Experiment:
    return load(find(f"examples/{name}.toml"), (*keys,))


@pytest.mark.parametrize(("name", "samples"), [("sine", 10), ("omniglot", 10), ("presence", 10), ("digits", 12)])
@pytest.mark.parametrize("kind", ["tinymetafed", "tinyreptile", "reptile", "fedavg", "fedsgd"])
def test_a_round_is_one_pass_over_ten_samples_or_what_the_classes_can_share(name: str, samples: int, kind: str) -> None:
    experiment = example(name, ONLINE, f"strategy.kind={kind}")
    phases = open_strategy(experiment, design_of(experiment, name).manifest).training()
    assert [(phase.sample_set, phase.count, phase.passes) for phase in phases] == [
        (SampleSet.SUPPORT, samples, 1),
        (SampleSet.QUERY, samples, 1),
    ]
    assert parse(dump(experiment), "again") == experiment and uses(experiment) == "each sample trains once and is not kept"


def test_numbers_of_the_experiment_count_and_without_the_key_nothing_changes() -> None:
    assert example("omniglot", ONLINE, "task.query=3").task.count(SampleSet.QUERY) == 15
    usual = example("omniglot")
    assert (usual.task.support, usual.strategy.uses) == (5, (2, 2)) and uses(usual) == "each sample trains 2 times"
    assert uses(example("sine")) == "a support sample trains 2 times, a query sample 3 times"
    assert uses(example("sine", "strategy.kind=tinyol")) == ""
    firmware = [design_of(example("sine", *keys), "sine").manifest.model_hash for keys in ((), (ONLINE,))]
    assert firmware[0] == firmware[1]


@pytest.mark.parametrize("key", ["strategy.local_passes", "strategy.global_passes"])
def test_more_passes_are_refused_by_their_key(key: str) -> None:
    with pytest.raises(SpecError, match=f"{key} = 2, but with task.online = true"):
        example("sine", ONLINE, f"{key}=2")


def test_a_strategy_of_ones_own_that_trains_a_sample_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    experiment = example("sine", ONLINE, f"strategy.kind={tmp_path / 'twice.py'}:Twice")
    with pytest.raises(SpecError, match=r"several passes over SUPPORT, but with task\.online = true"):
        open_strategy(experiment, design_of(experiment, "sine").manifest)
