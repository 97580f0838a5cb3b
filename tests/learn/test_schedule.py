"""The server's learning rate: linear, warm restarts, never below its minimum, rounded to a grid so that all systems agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.learn.schedule import alpha
from tinymetafed_codegen.spec import TinyMetaFedSpec

GRID = 2.0**-16


def strategy(**changes: Any) -> TinyMetaFedSpec:
    given: dict[str, Any] = {
        "local_learning_rate": 0.1,
        "local_passes": 1,
        "global_learning_rate": 0.1,
        "global_passes": 1,
        "output_clamp": 0.0,
    }
    return TinyMetaFedSpec(**{**given, **changes})


def test_linear_falls_from_its_maximum_to_its_minimum() -> None:
    falling = [alpha(strategy(alpha_max=0.5, alpha_min=0.25), r, 8) for r in range(9)]
    assert falling == [0.5 - 0.25 * r / 8 for r in range(9)]
    assert alpha(strategy(), 0, 3000) == 0.5
    assert alpha(strategy(), 1500, 3000) == 0.25
    assert alpha(strategy(), 2999, 3000) == np.float32(round(0.5 / 3000 / GRID) * GRID)


def test_sgdr_anneals_by_a_cosine_and_restarts_lower() -> None:
    sgdr = strategy(schedule="sgdr", alpha_max=0.5, alpha_min=0.1, restart_rounds=10, restart_decay=0.15)
    found = [float(alpha(sgdr, r, 30)) for r in range(30)]
    for r, value in enumerate(found):
        peak = 0.4 - 0.15 * (r // 10)
        assert value == pytest.approx(0.1 + peak / 2 * (1 + math.cos(math.pi * (r % 10) / 10)), abs=GRID)
    assert found[0] == pytest.approx(0.5, abs=GRID)
    assert found[10] == pytest.approx(0.35, abs=GRID)
    assert found[20] == pytest.approx(0.2, abs=GRID)
    assert all(found[r] > found[r + 1] for r in range(29) if r % 10 != 9)


def test_a_decay_that_uses_up_the_peak_stays_at_the_minimum() -> None:
    sgdr = strategy(schedule="sgdr", alpha_max=0.5, alpha_min=0.125, restart_rounds=5, restart_decay=0.3)
    assert {float(alpha(sgdr, r, 50)) for r in range(10, 50)} == {0.125}


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["linear", "sgdr"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.data(),
)
def test_alpha_stays_between_its_limits_and_on_the_grid(
    a: float, b: float, decay: float, kind: str, cycle: int, cycles: int, data: st.DataObject
) -> None:
    low, high = sorted((a, b))
    more = {"restart_rounds": cycle, "restart_decay": decay} if kind == "sgdr" else {}
    spec = strategy(schedule=kind, alpha_min=low, alpha_max=max(high, 1e-9), **more)
    value = alpha(spec, data.draw(st.integers(0, cycle * cycles - 1)), cycle * cycles)
    assert value.dtype == np.float32
    assert float(value) / GRID == round(float(value) / GRID)
    assert round(low / GRID) * GRID <= value <= round(max(high, 1e-9) / GRID) * GRID


def test_constant_stays_and_cosine_falls_slowly_first() -> None:
    assert {float(alpha(strategy(schedule="constant"), r, 8)) for r in range(8)} == {0.5}
    falling = [float(alpha(strategy(schedule="cosine", alpha_min=0.25), r, 8)) for r in range(9)]
    assert falling[0] == 0.5 and falling[4] == 0.375 and falling[8] == 0.25
    assert falling[0] - falling[1] < falling[3] - falling[4]
