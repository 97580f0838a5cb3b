"""The measured downloads are those of the run: a board of every round gets the least, and no download more than all weights."""

from __future__ import annotations

import pytest
from small_runs import Quiet, sine

from tinymetafed.bench import downlink_cost as bench
from tinymetafed.bench.downlink_cost import RETURNS, downlink_cost


def test_boards_that_return_more_often_get_fewer_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SAMPLED", 4)
    found = downlink_cost(sine("run.rounds=24", "run.clients=40"), "sine", None, Quiet())
    assert (found.rounds, found.weights) == (24, 1120)
    assert [row.dtype for row in found.rows] == ["f32", "f16", "i8", "i4", "i3", "t2"]
    sizes = [row.full for row in found.rows]
    assert sizes == sorted(sizes, reverse=True) and sizes[2] > 1120 > sizes[3]
    for row in found.rows:
        assert tuple(row.by_return) == RETURNS
        assert 0 < row.share(1) < row.share(16)
        if row.coding == "packed":
            assert list(row.by_return.values()) == sorted(row.by_return.values())
            assert row.share(1) < 0.6 and row.share(16) <= 1
