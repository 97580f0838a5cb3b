"""The server's optimisers against a reference in float64, the average of weights, and keys that do not fit together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import SINE, manifest, sine

from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.server_optimiser import ServerState, averaged
from tinymetafed.learn.strategies import Strategy, open_strategy
from tinymetafed_codegen.spec import SpecError, load

N = 5
ADAPTIVE = ("strategy.server_decay=0.8", "strategy.server_floor=0.05")


def reference(kind: str, changes: list[np.ndarray], alphas: list[float], beta: float) -> np.ndarray:
    """The weights after steps from 0, in float64, as Algorithm 2 of arXiv 2003.00295 has them."""
    weights, mean, square = np.zeros(N), np.zeros(N), np.full(N, 0.05**2)
    for change, alpha in zip(changes, alphas, strict=True):
        mean = beta * mean + (1 - beta) * change
        if kind == "momentum":
            weights = weights + alpha * mean
            continue
        if kind == "adam":
            square = 0.8 * square + 0.2 * change**2
        else:
            square = square - 0.2 * change**2 * np.sign(square - change**2)
        weights = weights + alpha * mean / (np.sqrt(square) + 0.05)
    return weights


@cache
def stepping(kind: str) -> Strategy:
    keys = (f"strategy.server={kind}", "strategy.server_momentum=0.7", "strategy.alpha_max=0.5", "run.rounds=6")
    experiment = sine(*keys, *(ADAPTIVE if kind != "momentum" else ()))
    return open_strategy(experiment, manifest(experiment))


@pytest.mark.parametrize("kind", ["momentum", "adam", "yogi"])
@settings(max_examples=40)
@given(rows=st.lists(st.lists(st.integers(-8, 8), min_size=N, max_size=N), min_size=1, max_size=6))
def test_steps_are_those_of_the_reference(kind: str, rows: list[list[int]]) -> None:
    strategy = stepping(kind)
    weights, state = np.zeros(strategy.n_global, np.float32), ServerState()
    for round_, row in enumerate(rows):
        sent = [at for at, value in enumerate(row) if value]  # Top-P leaves the others out
        delta = Sparse(np.array(sent, np.int64), np.array([row[at] / 16 for at in sent], np.float32))
        weights, state = strategy.step(weights, [delta], round_, state)
    alphas = [float(strategy.alpha(round_)) for round_ in range(len(rows))]
    expected = reference(kind, [np.array(row) / 16 for row in rows], alphas, 0.7)
    assert weights.dtype == np.float32 and not weights[N:].any()
    np.testing.assert_allclose(weights[:N], expected, rtol=2e-5, atol=1e-6)
    assert {name for name, _ in state.parts()} == ({"momentum"} if kind == "momentum" else {"momentum", "variance"})


def test_an_entry_that_was_not_sent_goes_on_with_its_momentum() -> None:
    experiment = sine("strategy.server=momentum", "strategy.schedule=constant", "strategy.alpha_max=1")
    strategy = open_strategy(experiment, manifest(experiment))
    first = Sparse(np.array([3]), np.array([1.0], np.float32))
    start = np.zeros(strategy.n_global, np.float32)
    once, state = strategy.step(start, [first], 0, ServerState())
    twice, _ = strategy.step(once, [Sparse(np.array([9]), np.array([1.0], np.float32))], 1, state)
    assert once[3] == pytest.approx(0.1) and twice[3] == pytest.approx(0.1 + 0.09) and twice[9] == pytest.approx(0.1)


@given(st.integers(0, 6), st.integers(1, 9))
def test_the_average_is_that_of_the_last_rounds(first: int, rounds: int) -> None:
    generator = np.random.default_rng(first)
    weights = generator.normal(size=(rounds, N)).astype(np.float32)
    state = ServerState()
    for round_ in range(rounds):
        state = averaged(state, weights[round_], round_, first)
    assert state.averaged == max(0, rounds - first)
    latest = weights[-1]
    np.testing.assert_allclose(state.result(latest), weights[first:].mean(axis=0) if rounds > first else latest, atol=1e-6)


def test_an_average_that_begins_too_early_begins_anew() -> None:
    ones = np.ones(N, np.float32)
    early = averaged(averaged(ServerState(), ones, 4, 4), ones, 5, 4)
    assert averaged(early, 3 * ones, 6, 9) == ServerState()  # the run was extended: its last rounds are still to come
    again = averaged(early, 3 * ones, 6, 5)
    assert again.averaged == 1 and again.average is not None and (again.average == 3).all()


@pytest.mark.parametrize(
    ("share", "rounds", "first"), [(0.0, 9, 9), (1 / 3, 1500, 1000), (1.0, 7, 0), (0.001, 10, 9), (0.5, 5, 2)]
)
def test_the_share_of_the_rounds_that_is_averaged(share: float, rounds: int, first: int) -> None:
    assert sine(f"strategy.average_last={share}").strategy.averages_from(rounds) == first


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["strategy.server=adagrad"], "'strategy.server' = 'adagrad'"),
        (["strategy.server_momentum=0.5"], "strategy.server_momentum works only with strategy.server = 'momentum' or 'adam'"),
        (["strategy.server=momentum", "strategy.server_decay=0.5"], "strategy.server_decay works only with"),
        (["strategy.server=momentum", "strategy.server_floor=0.5"], "strategy.server_floor works only with"),
        (["strategy.server=adam", "strategy.server_momentum=1"], "'strategy.server_momentum' = 1"),
        (["strategy.server=adam", "strategy.server_floor=0"], "'strategy.server_floor' = 0"),
        (["strategy.average_last=1.5"], "'strategy.average_last' = 1.5"),
        (["strategy.kind=tinyol", "strategy.server=adam"], "strategy.server: strategy.kind = 'tinyol' has no server"),
        (
            ["strategy.kind=tinyol", "strategy.average_last=0.3"],
            "strategy.average_last: strategy.kind = 'tinyol' has no server",
        ),
    ],
)
def test_keys_that_nothing_reads_are_refused(keys: list[str], words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        sine(*keys)
    assert words in str(refusal.value)


def test_the_learning_rate_has_a_default_for_each_optimiser() -> None:
    found = [sine(f"strategy.server={kind}").strategy.alpha_max for kind in ("sgd", "momentum", "adam", "yogi")]
    assert found == [0.5, 0.5, 0.01, 0.01]
    assert sine("strategy.server=adam", "strategy.alpha_max=0.5").strategy.alpha_max == 0.5
    assert sine("strategy.kind=fedavg").strategy.alpha_max == 1.0


OWN = """import tinymetafed as tmf

class Own(tmf.TinyMetaFed):
    def alpha(self, round_):
        return 0.25
"""


def test_a_users_strategy_has_the_optimisers_unless_it_moves_the_weights_itself(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    keys = [f"strategy.kind={file}:Own", "strategy.server=momentum"]
    file.write_text(OWN)
    experiment = load(SINE, keys)
    strategy = open_strategy(experiment, manifest(experiment))
    delta = Sparse(np.array([0]), np.array([1.0], np.float32))
    moved, _ = strategy.step(np.zeros(strategy.n_global, np.float32), [delta], 0, ServerState())
    assert moved[0] == pytest.approx(0.025)  # α = 0.25 times a tenth of the change
    file.write_text(OWN + "\n    def update(self, weights, deltas, round_):\n        return weights\n")
    with pytest.raises(SpecError, match=r"strategy\.server = 'momentum': the class of .* defines update\(\)"):
        open_strategy(load(SINE, keys), manifest(experiment))
