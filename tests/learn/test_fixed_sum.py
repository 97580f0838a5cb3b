"""Sums in whole numbers: the same for any grouping and order, exact in their bounds, refused beyond them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import sine

from tinymetafed.learn import fixed_sum
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.spec import SpecError

N = 12


def updates(seed: int, count: int, scale: float) -> list[Sparse]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        indices = np.sort(rng.choice(N, rng.integers(0, N + 1), replace=False)).astype(np.int64)
        found.append(Sparse(indices, (rng.normal(size=indices.size) * scale).astype(np.float32)))
    return found


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 20), scale=st.sampled_from([1e-6, 1.0, 1e5]), data=st.data())
@settings(max_examples=100)
def test_any_grouping_gives_the_same_sum(seed: int, count: int, scale: float, data: st.DataObject) -> None:
    made = updates(seed, count, scale)
    order = data.draw(st.permutations(made))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    groups = [order[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    parts = sum((fixed_sum.total(group, N, -18) for group in groups), np.zeros(N, np.int64))
    assert parts.tolist() == fixed_sum.total(made, N, -18).tolist()


def test_the_mean_is_that_of_the_updates_up_to_half_a_step() -> None:
    made = updates(1, 7, 0.1)
    exponent = fixed_sum.exponent(np.full(N, 0.7, np.float32))
    assert exponent == -fixed_sum.STEP_BITS
    mean = fixed_sum.mean(fixed_sum.total(made, N, exponent), exponent, 7)
    exact = sum(each.dense(N).astype(np.float64) for each in made) / 7
    assert mean.values.dtype == np.float32
    assert np.abs(mean.dense(N) - exact).max() <= 2.0 ** (exponent - 1) + 1e-8


@pytest.mark.parametrize(("largest", "bits"), [(0.0, -5), (0.5, 0), (0.999, 0), (1.0, 1), (-3.0, 2), (100.0, 7)])
def test_the_step_follows_the_largest_weight(largest: float, bits: int) -> None:
    assert fixed_sum.exponent(np.array([0.001, largest], np.float32)) == bits - fixed_sum.STEP_BITS


def test_a_change_that_no_sum_holds_is_refused_and_not_clipped() -> None:
    most = np.float32(2.0 ** (fixed_sum.ENTRY_BITS - 20))
    fits = Sparse(np.array([3]), np.array([np.nextafter(most, np.float32(0))], np.float32))
    assert fixed_sum.integers(fits, N, -20)[3] > 0.99 * 2**fixed_sum.ENTRY_BITS
    with pytest.raises(
        fixed_sum.TooLarge, match=r"changes a weight by 6.71e\+07, and sums of a round hold less than 6.71e\+07"
    ):
        fixed_sum.integers(Sparse(np.array([3]), np.array([-most], np.float32)), N, -20)
    whole = np.full(1, (1 << fixed_sum.ENTRY_BITS) - 1, np.int64) * fixed_sum.MAX_UPDATES
    assert whole[0] > 0, "so many updates of the largest size fit int64"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            ["strategy.defence=krum", "run.devices_per_round=9"],
            "strategy.gateways = 'pre-summed' needs strategy.defence = 'none'",
        ),
        (
            ["privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=4"],
            "privacy.secure_aggregation = true needs strategy.gateways = 'forward'",
        ),
        (["strategy.kind=tinyol"], "strategy.gateways: strategy.kind = 'tinyol' has no server"),
        (["strategy.gateways=median"], "strategy.gateways"),
    ],
)
def test_what_looks_at_single_updates_is_refused(keys: list[str], text: str) -> None:
    with pytest.raises(SpecError, match=text.replace("(", r"\(")):
        sine("strategy.gateways=pre-summed", *keys)


def test_an_own_update_is_refused_and_the_same_strategy_without_one_is_not(tmp_path: Path) -> None:
    for body, refused in (("def update(self, weights, deltas, round_): return weights", True), ("pass", False)):
        file = tmp_path / f"own_{refused}.py".lower()
        file.write_text(f"from tinymetafed.learn.strategies import TinyMetaFed\nclass Own(TinyMetaFed):\n    {body}\n")
        experiment = sine(f"strategy.kind={file}:Own", "strategy.gateways=pre-summed")
        manifest = design_of(experiment, "x.toml").manifest
        if not refused:
            open_strategy(experiment, manifest)
            continue
        with pytest.raises(SpecError, match=r"strategy.gateways = 'pre-summed': the class of .* defines update\(\)"):
            open_strategy(experiment, manifest)
