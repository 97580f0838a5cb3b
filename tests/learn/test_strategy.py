"""Strategies: client selection from the seed, the recipes of the papers, the size of a delta, and finite updates."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import manifest, omniglot, sine

from tinymetafed.learn import prng
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import StrategyError, TinyMetaFed, open_strategy
from tinymetafed.learn.strategies.interface import choose_clients
from tinymetafed.learn.strategies.own_strategy import OwnStrategy
from tinymetafed_codegen import graph
from tinymetafed_codegen.calls import BackwardCall
from tinymetafed_codegen.ops import ClipNorm
from tinymetafed_codegen.protocol import Dtype, SampleSet, Stream, Variant
from tinymetafed_codegen.spec import SpecError, load


def strategy(*overrides: str, **changes: Any) -> TinyMetaFed:
    experiment = sine(*overrides)
    return TinyMetaFed(experiment, dataclasses.replace(manifest(experiment), **changes))


@given(st.integers(0, 2**32 - 1), st.integers(0, 10**7), st.integers(1, 60), st.integers(0, 40))
@settings(max_examples=60)
def test_clients_are_distinct_in_range_and_determined_by_seed_and_round(
    seed: int, round: int, clients: int, spare: int
) -> None:
    taking_part = max(1, clients - spare)
    keys = (f"run.seed={seed}", f"run.clients={clients}", f"run.devices_per_round={taking_part}")
    chosen = strategy(*keys).clients(round, clients)
    assert len(chosen) == len(set(chosen)) == taking_part
    assert all(0 <= client < clients for client in chosen)
    assert chosen == strategy(*keys, "run.rounds=7", "strategy.top_p=3", "task.support=4").clients(round, clients)


@pytest.mark.parametrize(("count", "of"), [(1, 2), (900, 900), (5000, 5000), (20_000, 20_001), (9000, 10**6), (3, 2**32 - 1)])
def test_clients_are_chosen_in_the_order_of_their_first_draws(count: int, of: int) -> None:
    words, _ = prng.draw(4, 0, 6, Stream.CLIENT_CHOICE, np.arange(300_000))
    drawn = (words.astype(np.uint64) * np.uint64(of) >> np.uint64(32)).tolist()
    assert choose_clients(4, 6, count, of) == list(dict.fromkeys(drawn))[:count]


def test_more_draws_than_a_series_has_come_from_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    few, long = choose_clients(1, 0, 500, 1000), choose_clients(1, 0, 1000, 1000)
    monkeypatch.setattr(prng, "MAX_INDEX", 1024)
    assert choose_clients(1, 0, 500, 1000) == few
    chosen = choose_clients(1, 0, 1000, 1000)  # of some 7,500 draws
    assert sorted(chosen) == list(range(1000)) and chosen[:500] == long[:500] and chosen != long


def test_a_choice_of_many_clients_keeps_no_memory() -> None:
    choose_clients(1, 0, 100, 100)
    tracemalloc.start()
    try:
        for round_ in range(2):
            assert len(choose_clients(1, round_, 20_000, 20_000)) == 20_000
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000


def test_seeds_in_turn_draw_their_rounds_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    genuine = prng.threefry

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return genuine(*arguments)

    monkeypatch.setattr(prng, "threefry", counted)
    for round_ in range(60):
        for seed in range(5):
            choose_clients(1000 + seed, round_, 3, 10_000)
    assert len(calls) <= 2 * 5


def test_private_rounds_in_which_nobody_takes_part_twice_share_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    genuine = prng.permutation

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return genuine(*arguments)

    monkeypatch.setattr(prng, "permutation", counted)
    private = strategy(
        "run.devices_per_round=10", "run.clients=1000", "run.seed=77", "strategy.selection=random", "privacy.noise=1",
        "privacy.clip=1",
    )  # fmt: skip
    rounds = [private.clients(round_, 1000) for round_ in range(200)]
    assert len(made) == 2
    for hundred in (rounds[:100], rounds[100:]):
        assert sorted(client for chosen in hundred for client in chosen) == list(range(1000))


def test_fewer_devices_per_round_get_the_first_of_the_same_clients() -> None:
    three, one = strategy("run.devices_per_round=3"), strategy()
    assert all(three.clients(r, 1000)[:1] == one.clients(r, 1000) for r in range(50))


def test_all_clients_take_part_about_equally_often() -> None:
    few = strategy()
    counts = np.bincount([few.clients(r, 10)[0] for r in range(2000)], minlength=10)
    assert counts.min() > 140 and counts.max() < 260
    assert [few.clients(r, 10) for r in range(20)] != [strategy("run.seed=2").clients(r, 10) for r in range(20)]


def test_too_few_clients_for_a_round_are_refused() -> None:
    with pytest.raises(StrategyError, match=r"run.devices_per_round = 3, but there are only 2"):
        strategy("run.devices_per_round=3").clients(0, 2)


@pytest.mark.parametrize(
    ("n", "top_p", "k"),
    [(1120, 50, 560), (1120, 25, 280), (1120, 100, 1120), (7, 50, 4), (5, 50, 3), (7, 1, 1), (1, 0.001, 1), (1120, 12.5, 140)],
)
def test_the_deltas_size_is_rounded_and_at_least_one(n: int, top_p: float, k: int) -> None:
    assert strategy(f"strategy.top_p={top_p}", n_global=n).top_k == k


@given(st.integers(1, 1 << 20), st.floats(1e-6, 100))
@settings(max_examples=50)
def test_a_delta_never_has_more_entries_than_global_weights(n: int, top_p: float) -> None:
    assert 1 <= strategy(f"strategy.top_p={top_p!r}", n_global=n).top_k <= n


def test_training_reconstructs_the_local_part_then_updates_the_global_one() -> None:
    local, update = strategy().training()
    assert (local.variant, local.sample_set, local.count, local.passes) == (Variant.LOCAL, SampleSet.SUPPORT, 16, 2)
    assert (update.variant, update.sample_set, update.count, update.passes) == (Variant.GLOBAL, SampleSet.QUERY, 16, 3)
    assert (local.learning_rate, update.learning_rate) == (0.03, 0.02)
    assert local.output_clamp == update.output_clamp == 1.0


def test_adaptation_trains_the_local_part_then_the_whole_model() -> None:
    local, full = strategy().adaptation(5)
    assert (local.variant, local.sample_set, local.count, local.passes) == (Variant.LOCAL, SampleSet.ADAPT, 5, 16)
    assert (full.variant, full.sample_set, full.count, full.passes) == (Variant.FULL, SampleSet.ADAPT, 5, 16)
    assert (local.learning_rate, full.learning_rate) == (0.03, 0.005)


def test_omniglot_counts_samples_of_all_classes() -> None:
    experiment = omniglot()
    local, update = TinyMetaFed(experiment, manifest(experiment)).training()
    assert (local.count, update.count) == (25, 25)


@pytest.mark.parametrize(("name", "dtype"), [("f32", Dtype.F32), ("f16", Dtype.F16), ("i8", Dtype.I8)])
def test_wire_types_are_the_experiments(name: str, dtype: Dtype) -> None:
    chosen = strategy(f"strategy.uplink={name}", f"strategy.downlink={name}")
    assert chosen.uplink == dtype
    segments = chosen.download(np.ones(chosen.n_global, np.float32))
    assert {segment.dtype for segment in segments} == {dtype}
    assert len(segments) == (4 if dtype == Dtype.I8 else 1)  # int8 has one scale per tensor


def test_an_update_moves_by_alpha_times_the_mean() -> None:
    chosen = strategy("run.rounds=4")
    weights = np.zeros(chosen.n_global, np.float32)
    deltas = [Sparse(np.array([0, 2]), np.array([1, 4], np.float32)), Sparse(np.array([2]), np.array([2], np.float32))]
    moved = chosen.update(weights, deltas, 2)
    assert moved[:4].tolist() == [0.125, 0, 0.75, 0]
    assert not weights.any()  # the caller's array is not modified


@pytest.mark.filterwarnings("ignore:overflow")
def test_an_update_that_would_be_infinite_is_refused() -> None:
    chosen = strategy("strategy.alpha_max=1")
    weights = np.full(chosen.n_global, 3e38, np.float32)
    with pytest.raises(StrategyError, match=r"diverged.*round 0.*strategy\.global_learning_rate"):
        chosen.update(weights, [Sparse(np.array([5]), np.array([3e38], np.float32))], 0)


def test_the_error_for_weights_out_of_range_of_their_dtype_names_the_remedy() -> None:
    chosen = strategy()  # downlink in float16
    weights = np.zeros(chosen.n_global, np.float32)
    weights[40] = 1e6
    with pytest.raises(StrategyError, match=r"diverged.*float16.*strategy\.global_learning_rate"):
        chosen.download(weights)


OWN = """
import numpy as np
from tinymetafed.learn.strategies import TinyMetaFed

class Half(TinyMetaFed):
    def update(self, weights, deltas, round_):
        return weights + np.float32(self.spec.options["share"]) * (super().update(weights, deltas, round_) - weights)
"""


def test_a_users_own_strategy_is_a_class_in_a_file_beside_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(Path("examples/sine.toml").read_text())
    experiment = load(tmp_path / "own.toml", ["strategy.kind=mine:Half", "strategy.options.share=0.5", "run.rounds=4"])
    own = open_strategy(experiment, manifest(experiment))
    deltas = [Sparse(np.array([2]), np.array([4], np.float32))]
    assert own.update(np.zeros(own.n_global, np.float32), deltas, 2)[2] == 0.5  # half of alpha = 0.25 of 4
    assert own.top_k == own.n_global // 2 and own.training() == strategy().training()


def test_a_users_file_hides_no_other_module(tmp_path: Path) -> None:
    (tmp_path / "statistics.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(Path("examples/sine.toml").read_text())
    experiment = load(tmp_path / "own.toml", ["strategy.kind=statistics:Half"])
    own = open_strategy(experiment, manifest(experiment))
    assert isinstance(own, OwnStrategy) and own.user_class.__name__ == "Half"
    assert sys.modules["statistics"] is statistics


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("()", r"returns 0 phases.*expected 1 to 4"),
        ("super().training() * 3", r"returns 6 phases.*expected 1 to 4"),
        (
            "(self.phase(Variant.FULL, SampleSet.QUERY, 0, 0.1), *super().training())",
            r"phases\[0\]\.passes = 0: expected 1",
        ),
        ("(*super().training(), self.phase(Variant.FULL, SampleSet.QUERY, 1, -0.1))", r"phases\[2\]\.learning_rate = -0\.1: "),
        ("(self.phase(Variant.GRADIENT, SampleSet.QUERY, 1, 0.1),)", r"has no GRADIENT steps"),
    ],
)
def test_a_recipe_that_no_device_can_run_is_refused(phases: str, message: str, tmp_path: Path) -> None:
    method = f"    def training(self):\n        return {phases}\n"
    (tmp_path / "mine.py").write_text("from tinymetafed_codegen.protocol import SampleSet, Variant" + OWN + method)
    (tmp_path / "own.toml").write_text(Path("examples/sine.toml").read_text())
    experiment = load(tmp_path / "own.toml", ["strategy.kind=mine:Half"])
    with pytest.raises(SpecError, match=message):
        open_strategy(experiment, manifest(experiment))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere:Half", r"nowhere: ModuleNotFoundError: No module named"),
        ("mine:Third", r"mine\.py: has no class Third; its classes are: Half, Empty"),
        ("mine:np", r"mine\.py: has no class np; its classes are: Half, Empty"),
        ("mine:Empty", r"Empty lacks training\(\)"),
    ],
)
def test_a_class_that_is_no_strategy_is_refused(kind: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        OWN + "\nfrom tinymetafed.learn.strategies import Strategy\nclass Empty(Strategy): pass\n"
    )
    (tmp_path / "own.toml").write_text(Path("examples/sine.toml").read_text())
    experiment = load(tmp_path / "own.toml", [f"strategy.kind={kind}"])
    with pytest.raises(SpecError, match=message):
        open_strategy(experiment, manifest(experiment))


@pytest.mark.parametrize("kind", ["tinyreptile", "reptile", "fedavg"])
def test_strategies_without_local_layers_send_the_whole_model(kind: str) -> None:
    experiment = sine(f"strategy.kind={kind}", "strategy.top_p=100")
    chosen = open_strategy(experiment, manifest(experiment))
    assert chosen.n_global == chosen.top_k == 1153
    assert [(phase.variant, phase.sample_set) for phase in chosen.training()] == [
        (Variant.FULL, SampleSet.SUPPORT),
        (Variant.FULL, SampleSet.QUERY),
    ]
    assert [phase.variant for phase in chosen.adaptation(8)] == [Variant.FULL]
    assert chosen.alpha(0) == (1.0 if kind == "fedavg" else 0.5)


def test_fedsgd_computes_one_gradient_of_all_samples_and_steps_by_the_mean() -> None:
    experiment = sine("strategy.kind=fedsgd", "strategy.top_p=100")
    chosen = open_strategy(experiment, manifest(experiment))
    assert chosen.n_global == chosen.top_k == 1153 and experiment.run.devices_per_round == 5
    assert [(phase.variant, phase.sample_set, phase.count, phase.passes) for phase in chosen.training()] == [
        (Variant.GRADIENT, SampleSet.SUPPORT, 16, 1),
        (Variant.GRADIENT, SampleSet.QUERY, 16, 1),
    ]
    assert [phase.variant for phase in chosen.adaptation(8)] == [Variant.FULL]
    assert (chosen.uplink, chosen.spec.downlink, chosen.alpha(0), chosen.alpha(2999)) == (Dtype.F32, "f32", 1, 1)
    with pytest.raises(SpecError, match=r"'strategy\.global_passes' = 2: input should be 1"):
        sine("strategy.kind=fedsgd", "strategy.global_passes=2")


def test_only_fedsgd_has_gradient_phases() -> None:
    with pytest.raises(StrategyError, match=r"'tinymetafed' .*GRADIENT"):
        strategy().phase(Variant.GRADIENT, SampleSet.SUPPORT, 1, 0.1)


@pytest.mark.parametrize("kind", ["tinymetafed", "tinyreptile", "reptile", "fedavg", "fedsgd", "tinyol"])
def test_every_strategy_clamps_and_clips(kind: str) -> None:
    experiment = sine(f"strategy.kind={kind}", "strategy.output_clamp=0.25", "model.clip_norm=0.5")
    chosen = open_strategy(experiment, manifest(experiment))
    phases = (*chosen.training(), *chosen.adaptation(8))
    assert phases and all(phase.output_clamp == 0.25 for phase in phases)
    net = graph.build(experiment.model, partial=experiment.strategy.partial, gradient=experiment.strategy.gradient)
    for variant in {Variant(phase.variant) for phase in phases}:
        clipped = {call.y.name for call in net.backward[variant] if isinstance(call.op, ClipNorm)}
        assert clipped == {call.dy.name for call in net.backward[variant] if isinstance(call, BackwardCall) and call.update}


def test_tinyol_has_no_rounds_and_trains_the_local_layers() -> None:
    experiment = sine("strategy.kind=tinyol")
    chosen = open_strategy(experiment, manifest(experiment))
    assert experiment.run.rounds == 0 and chosen.training() == ()
    assert [(phase.variant, phase.passes) for phase in chosen.adaptation(8)] == [(Variant.LOCAL, 1)]
