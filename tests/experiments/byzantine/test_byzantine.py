"""The Byzantine table in small: what liars send, runs that are kept over an interruption, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import Quiet, sine

import tinymetafed as tmf
from tinymetafed.experiments import SweepFailed
from tinymetafed.experiments.byzantine import ATTACKS, Outcome, Plan, byzantine_page, byzantine_table, run_all
from tinymetafed.experiments.byzantine.attacks import FlippedLabels, LyingClients
from tinymetafed.experiments.byzantine.byzantine_table import HONEST, NONE, RECOMMENDED
from tinymetafed.federation.rounds import rounds
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import initial, sha256
from tinymetafed.runs.setup import set_up
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.protocol import SampleSet

TINY = Plan(("sine",), ("all +1", "one 3e38"), seeds=1, rounds=6, tasks=2, fleets=((5, 1), (20, 4)))
HONEST_DELTA = Sparse(np.array([1, 4, 9]), np.array([0.5, -0.25, 1.0], np.float32))


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ("sign-flipped", [-0.5, 0.25, -1]),
        ("sign x10", [-5, 2.5, -10]),
        ("x100", [50, -25, 100]),
        ("all +1", [1, 1, 1]),
        ("all +100", [100, 100, 100]),
        ("one 3e38", [3e38, -0.25, 1]),
    ],
)
def test_what_liars_send(attack: str, expected: list[float]) -> None:
    made = ATTACKS[attack]
    assert made is not None
    lie = made(12)(HONEST_DELTA)
    assert lie.values.tolist() == np.array(expected, np.float32).tolist() and lie.indices is HONEST_DELTA.indices


def test_a_little_is_enough_is_the_mean_less_some_deviations() -> None:
    made = ATTACKS["a little is enough"]
    assert made is not None
    lie, random = made(6), np.random.default_rng(2)
    known = random.normal(size=(40, 6)).astype(np.float32)
    for values in known:
        said = lie(Sparse(np.arange(6), values))
    np.testing.assert_allclose(said.dense(6), known.mean(axis=0) - 1.5 * known.std(axis=0), rtol=1e-4)


def test_flipped_labels_change_the_query_set_only() -> None:
    task = set_up(sine(), "sine", None).task
    flipped = FlippedLabels(task)
    for sample_set in (SampleSet.SUPPORT, SampleSet.QUERY):
        honest, lied = task.samples(3, 2, sample_set, 5), flipped.samples(3, 2, sample_set, 5)
        assert np.array_equal(honest.inputs, lied.inputs)
        assert np.array_equal(lied.targets, honest.targets * (-1 if sample_set is SampleSet.QUERY else 1))


def weights_with(liars: int, attack: str, *options: str) -> tuple[str, LyingClients]:
    experiment = sine("run.rounds=25", *options)
    setup = set_up(experiment, "sine", None)
    clients = LyingClients(open_kernels(setup.design, 1), setup.strategy, setup.task, 5, liars, attack)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    return sha256([done.weights for done in rounds(setup.strategy, setup.task, clients, first)][-1]), clients


@pytest.mark.parametrize("attack", ATTACKS)
def test_audits_find_every_kind_of_lie_of_one_of_five_boards(attack: str) -> None:
    honest, _ = weights_with(0, attack, "strategy.defence=bound")
    found, clients = weights_with(1, attack, "strategy.defence=bound", "strategy.audit=0.1")
    assert set(clients.excluded) == {0}
    assert found == honest, "a lie has reached the weights"


class Interrupting(Quiet):
    """Ends the work, as Ctrl-C does, after some runs."""

    def __init__(self, runs: int) -> None:
        self._left = runs

    def advance(self) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], Path]:
    file = tmp_path_factory.mktemp("whole") / byzantine_page.OUTCOMES
    return run_all(TINY, file, None, Quiet()), file


def test_the_plan_has_every_attack_with_every_defence() -> None:
    cases = list(Plan().cases())
    assert len(set(cases)) == len(cases)
    for task in ("sine", "omniglot"):
        for fleet in ((5, 1), (20, 2), (20, 4), (20, 6)):
            of_fleet = [case for case in cases if (case.task, case.boards, case.liars, case.clients) == (task, *fleet, 1)]
            assert len(of_fleet) == 3 * len(ATTACKS) * 4
        assert {case.defence for case in cases if case.clients > 1} == {"none", "trimmed mean", "Krum"}


def test_an_interrupted_table_is_continued_and_ends_the_same(whole: tuple[list[Outcome], Path], tmp_path: Path) -> None:
    file = tmp_path / "robust.json"
    with pytest.raises(KeyboardInterrupt):
        run_all(TINY, file, None, Interrupting(7))
    assert len(json.loads(file.read_text())["outcomes"]) == 7
    advanced: list[int] = []

    class Counting(Quiet):
        def advance(self) -> None:
            advanced.append(1)

    assert run_all(TINY, file, None, Counting()) == whole[0]
    assert len(advanced) == len(whole[0]) - 7
    assert file.read_text() == whole[1].read_text()


def test_a_lie_without_a_defence_ends_a_run_and_with_one_does_not(whole: tuple[list[Outcome], Path]) -> None:
    of = {
        (each.case.liars, each.case.attack, each.case.defence): each
        for each in whole[0]
        if each.case.boards == 5 and each.case.clients == 1
    }
    assert of[1, "one 3e38", NONE].score is None
    assert of[1, "one 3e38", RECOMMENDED].score == of[0, HONEST, RECOMMENDED].score is not None
    page = byzantine_page.page(whole[0])
    assert "### Sine waves, MSE: 1 of 5 boards lies, one client per round, 6 rounds" in page
    assert "| one 3e38 | dead |" in page


def test_the_page_says_which_targets_are_met(whole: tuple[list[Outcome], Path]) -> None:
    good = [replace(each, score=1.0) for each in whole[0]]
    assert "**missed**" not in byzantine_page.page(good)
    bad = [replace(each, score=1.31) if each.case.liars == 4 and each.case.defence == RECOMMENDED else each for each in good]
    assert "| Sine waves, MSE, 4 of 20 boards lie | x1.31 (all +1) | x1.3 | **missed** |" in byzantine_page.page(bad)


def test_the_documents_are_what_the_stored_outcomes_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = root() / "docs"
    made = json.loads((docs / byzantine_page.OUTCOMES).read_text())
    for module in (byzantine_page, byzantine_table):  # the documents are those of the version that measured
        monkeypatch.setattr(module, "__version__", made["tinymetafed"])
        monkeypatch.setattr(module, "ARITHMETIC_VERSION", made["arithmetic"], raising=False)
    security = (docs / byzantine_page.SECURITY).read_text()
    (tmp_path / byzantine_page.SECURITY).write_text(security)
    page = byzantine_page.write(byzantine_table.stored(docs / byzantine_page.OUTCOMES), tmp_path)
    assert page.read_text() == (docs / page.name).read_text()
    assert (tmp_path / byzantine_page.SECURITY).read_text() == security


def test_a_file_that_is_not_this_table_is_refused(whole: tuple[list[Outcome], Path], tmp_path: Path) -> None:
    file = tmp_path / "robust.json"
    file.write_text("{}")
    with pytest.raises(SweepFailed, match=r"robust\.json: not the outcomes of a Byzantine table; remove it"):
        run_all(TINY, file, None, Quiet())
    stored = json.loads(whole[1].read_text())
    file.write_text(json.dumps(stored | {"tinymetafed": "0.0.1"}))
    with pytest.raises(SweepFailed, match=r"robust\.json: made by tinymetafed 0\.0\.1"):
        run_all(TINY, file, None, Quiet())


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tmf.UsageError, match=r"--task sinus: expected one of sine, omniglot"):
        tmf.bench_byzantine(tmp_path, ["sinus"])
    with pytest.raises(tmf.UsageError, match=r"--attack lies: expected one of sign-flipped, "):
        tmf.bench_byzantine(tmp_path, attacks=["lies"])
    with pytest.raises(tmf.UsageError, match="no such folder"):
        tmf.bench_byzantine(tmp_path / "none")


def test_the_page_in_docs_is_that_of_its_outcomes() -> None:
    outcomes = byzantine_table.stored(root() / "docs" / byzantine_page.OUTCOMES)
    assert (root() / "docs" / byzantine_page.DOCUMENT).read_text(encoding="utf-8") == byzantine_page.page(outcomes)
    security = (root() / "docs" / byzantine_page.SECURITY).read_text(encoding="utf-8")
    assert byzantine_page.summary(outcomes) in security
