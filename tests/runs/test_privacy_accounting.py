"""The accounting of private runs: rounds of the journal, over sessions, by dp-accounting; what result and pages say."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_runs import Quiet, sine

from tinymetafed.federation.rounds import Contribution
from tinymetafed.runs import privacy_accounting as privacy
from tinymetafed.runs import report, training
from tinymetafed.runs.privacy_spent import PrivacySpent
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.options import private_update
from tinymetafed_codegen.spec import Experiment

KEYS = ["strategy.selection=random", "run.clients=10", "run.devices_per_round=4", "privacy.clip=0.2", "privacy.noise=1.0"]
PRIVATE = sine(*KEYS)
FACTS = private_update.facts(PRIVATE, 1120)


def contribution(client: int, status: str = "accepted") -> Contribution:
    return Contribution(client, "", status, "", 560, "")


def accounted(rounds: Sequence[Sequence[Contribution]], experiment: Experiment = PRIVATE) -> PrivacySpent:
    """With a mechanism that loses 1 / multiplier at any δ."""
    found = privacy.of_rounds(experiment, 1120, rounds, lambda multiplier, delta: 1 / multiplier)
    assert found is not None
    return found


def test_the_client_of_most_rounds_decides() -> None:
    assert FACTS is not None
    once = accounted([[contribution(client) for client in range(4)]])
    assert once.rounds == 1
    assert once.epsilon == pytest.approx(1 / FACTS.multiplier(4)) and once.host_epsilon == pytest.approx(
        1 / FACTS.multiplier(1)
    )
    assert once.host_epsilon == pytest.approx(2 * once.epsilon)  # a share of the noise, a half of four devices'
    rounds = [[contribution(each) for each in range(first, first + 4)] for first in (0, 1, 2, 4)]
    most = accounted(rounds)
    assert most.rounds == 3  # clients 3 and 4
    assert most.epsilon == pytest.approx(math.sqrt(3) * once.epsilon)
    assert most.noise_multiplier == pytest.approx(FACTS.multiplier(4) / math.sqrt(3))


def test_a_round_with_fewer_devices_has_less_noise() -> None:
    assert FACTS is not None
    found = accounted([[contribution(0), contribution(1), contribution(2, "skipped"), contribution(3, "skipped")]])
    assert found.epsilon == pytest.approx(1 / FACTS.multiplier(2))
    assert found.host_epsilon == pytest.approx(1 / FACTS.multiplier(1))  # what a lost board has sent, the host may have seen


def test_an_update_that_was_asked_for_twice_counts_twice_for_the_host() -> None:
    assert FACTS is not None
    found = accounted([[contribution(0, "redone"), *map(contribution, (1, 2, 3))]])
    assert found.epsilon == pytest.approx(1 / FACTS.multiplier(4))
    assert found.host_epsilon == pytest.approx(math.sqrt(2) / FACTS.multiplier(1))


def test_the_distance_to_a_gaussian_counts_against_delta() -> None:
    assert FACTS is not None

    def epsilon(multiplier: float, delta: float) -> float:
        return -math.log(delta)

    rounds = [[contribution(client) for client in range(4)]] * 50
    distance = 50 * 4 * 560 * FACTS.distance
    found = privacy.of_rounds(PRIVATE, 1120, rounds, epsilon)
    assert found is not None and found.epsilon is not None
    left = 1e-5 - (1 + math.exp(found.epsilon)) * distance
    assert 0 < left < 1e-5 and found.epsilon >= epsilon(1, left)  # at most the δ that the distance leaves was used
    assert found.epsilon <= epsilon(1, 0.9e-5)
    lost = privacy.of_rounds(PRIVATE, 1120, rounds, lambda multiplier, delta: 40.0)
    assert lost is not None and lost.epsilon is None and lost.host_epsilon is None
    assert "no bound" in lost.text


def test_nothing_is_promised_for_noise_that_everybody_can_compute() -> None:
    found = accounted([[contribution(0)]], sine(*KEYS, "privacy.public_seed=1"))
    assert found.epsilon is None and "not private" in found.text


def test_a_strategy_of_ones_own_counts_as_the_host_does(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("from tinymetafed.learn.strategies import TinyMetaFed\n\n\nclass Own(TinyMetaFed):\n    pass\n")
    found = accounted([[contribution(0)]], sine(*KEYS, f"strategy.kind={file}:Own"))
    assert found.epsilon == found.host_epsilon and "strategy of your own" in found.note


def test_with_secure_aggregation_the_host_sees_what_everybody_may() -> None:
    rounds = [[contribution(0, "redone"), *map(contribution, (1, 2, 3))]]
    found = accounted(rounds, sine(*KEYS, "privacy.secure_aggregation=true"))
    assert found.epsilon == found.host_epsilon == accounted(rounds).epsilon
    assert found.noise_multiplier == found.host_noise_multiplier
    assert found.text.endswith("for each client; for the host the same")
    assert "for the host, which sees each update: " in accounted(rounds).text


def test_updates_without_noise_have_no_accounting() -> None:
    assert privacy.of_rounds(sine(), 1120, [[contribution(0)]]) is None


def test_without_the_library_the_run_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    monkeypatch.setitem(sys.modules, "dp_accounting.rdp", None)
    found = privacy.of_rounds(PRIVATE, 1120, [[contribution(0)]])
    assert found is not None and found.epsilon is None
    assert found.text == "ε is not computed: the library dp-accounting is missing; pip install 'tinymetafed[privacy]'"


@pytest.mark.parametrize(("multiplier", "epsilon"), [(0.63767, 8.0), (4.509 / math.sqrt(50), 8.0)])
def test_the_library_gives_epsilon_of_gaussian_noise(multiplier: float, epsilon: float) -> None:
    pytest.importorskip("dp_accounting")
    assert privacy._gaussian(multiplier, 1e-5) == pytest.approx(epsilon, rel=1e-3)


def test_rounds_count_over_sessions_in_result_and_pages(tmp_path: Path) -> None:
    """A run of two rounds that is extended by two has lost as much as one of four; both end on the same weights."""
    few = ("evaluation.tasks=2", "evaluation.every=0", "privacy.public_seed=5", "strategy.schedule=constant")
    for name, rounds in (("at once", 4), ("extended", 2)):
        training.simulate(set_up(sine(*KEYS, *few, f"run.rounds={rounds}"), "test", None), 1, tmp_path / name, Quiet())
    training.resume_simulated(tmp_path / "extended", 1, Quiet(), rounds=4)
    runs = {name: read_run(tmp_path / name) for name in ("at once", "extended")}
    one, two = (run.result for run in runs.values())
    assert one is not None and two is not None and one.privacy is not None
    assert len(runs["extended"].sessions) == 2 and one.weights_sha256 == two.weights_sha256
    assert one.privacy == two.privacy and one.privacy.rounds == 2  # in turns: 4 rounds of 4 of 10 clients
    assert json.loads(json.dumps(one.as_json()))["privacy"]["rounds"] == 2
    page = report.write(runs["extended"]).read_text(encoding="utf-8")
    assert "<h2>Privacy</h2>" in page and "not private" in page
    report.compare([run.path for run in runs.values()], tmp_path / "comparison.html")
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8").count("not private") == 2
