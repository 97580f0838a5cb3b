"""A day of a board: its parts add up, the computed bytes are near counted ones, and the store's writes are in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import sine
from typer.testing import CliRunner

import tinymetafed as tmf
from tinymetafed.cli import application
from tinymetafed.runs.daily import DailyEstimate
from tinymetafed_codegen import graph
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.memory.work import forward_multiply_accumulates

REAL = [name for name in boards.names() if boards.load(name).real]


def day_of(*overrides: str, board: str = "nano33ble", day: tmf.Day | None = None) -> DailyEstimate:
    return tmf.estimate_day(tmf.load("examples/sine.toml", overrides), board, day)


@pytest.mark.parametrize("name", REAL)
def test_real_boards_have_the_times_of_their_flash(name: str) -> None:
    storage = boards.load(name).storage
    assert storage is not None and storage.write_microseconds is not None and storage.erase_milliseconds is not None
    for low, high in (storage.write_microseconds, storage.erase_milliseconds):
        assert 0 < low <= high


def test_a_prediction_is_a_forward_pass() -> None:
    known = boards.load("nano33ble").estimates
    work = forward_multiply_accumulates(graph.build(sine().model))
    assert known is not None and work == 32 + 32 * 32 + 32
    cost = day_of().per_prediction
    assert cost.seconds == pytest.approx(known.seconds(work))
    assert cost.millijoules == pytest.approx([second * 3.0 * 3.328 for second in cost.seconds])
    assert cost.flash_seconds == (0, 0)


def test_a_day_is_the_sum_of_what_the_board_does() -> None:
    day = tmf.Day(rounds=3, learned=50, predictions=700)
    found = day_of("board.store=true", "strategy.error_feedback=true", day=day)
    for name in ("seconds", "flash_seconds", "millijoules"):
        parts = [getattr(cost, name) for cost in (found.per_round, found.per_learned_sample, found.per_prediction)]
        for end in (0, 1):
            assert getattr(found.per_day, name)[end] == pytest.approx(
                3 * parts[0][end] + 50 * parts[1][end] + 700 * parts[2][end]
            )
    assert found.milliampere_hours == pytest.approx([joules / 3.0 / 3600 for joules in found.per_day.millijoules])
    assert found.per_round.flash_seconds[0] > 0 and found.per_learned_sample.flash_seconds[0] > 0


def test_the_stores_writes_follow_from_rounds_and_samples() -> None:
    day = tmf.Day(rounds=3, learned=64, predictions=0)
    assert (day_of(day=day).saves, day_of(day=day).flash_years) == (0, None)
    weights_alone = day_of("board.store=true", day=day)
    assert weights_alone.saves == 64 / 16 and weights_alone.flash_bytes == 4 * 4652
    assert day_of("board.store=true", "board.save_every=0", day=day).saves == 0
    kept = day_of("board.store=true", "board.save_every=8", "strategy.error_feedback=true", day=day)
    assert kept.saves == 3 + 8 and kept.flash_years is not None
    # A word takes 41 µs; a slot of 8 pages is erased for 7 saves.
    assert weights_alone.per_learned_sample.flash_seconds[0] == pytest.approx((4652 / 4 * 41e-6 + 8 / 7 * 85e-3) / 16)


def test_computed_bytes_are_near_those_that_a_run_counts(tmp_path: Path) -> None:
    few = ["run.rounds=2", "evaluation.tasks=1", "evaluation.every=0"]
    levels = ("strategy.uplink=i4", "strategy.downlink=i4")
    for more in ((), ("strategy.top_p=100", "strategy.uplink=f32", "strategy.downlink=i8"), levels):
        run = tmf.simulate(tmf.load("examples/sine.toml", [*few, *more]), out=tmp_path / str(len(more)), progress=False)
        assert run.result is not None and run.result.estimate is not None
        assert day_of(*more).bytes == pytest.approx(run.result.estimate.bytes, rel=0.02, abs=50)
    done = CliRunner().invoke(application(), ["estimate", str(tmp_path / "0"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["bytes_are_counted"] and found["day"] == {"rounds": 24, "learned": 100, "predictions": 1440}


def test_what_the_computed_bytes_of_a_round_leave_out_is_said() -> None:
    keys = "strategy.download=difference", "strategy.uplink_coding=rice"
    difference, rice = ("strategy.download = 'difference'", "strategy.uplink_coding = 'rice'")
    assert f"those without {difference} and {rice}: estimate a run's folder" in day_of(*keys).basis
    assert difference not in day_of(keys[1]).basis and rice not in day_of(keys[0]).basis
    ranged = ("strategy.uplink_coding=range", "strategy.downlink=i4", "strategy.downlink_coding=range")
    assert "'range' and strategy.downlink_coding = 'range': estimate a run's folder" in day_of(*ranged).basis
    counted = tmf.estimate_day(tmf.load("examples/sine.toml", keys), "nano33ble", counted_bytes=1_000)
    assert counted.basis == day_of().basis


def test_the_table_says_that_it_is_an_estimate_and_a_board_without_figures_is_named() -> None:
    words = ["estimate", "examples/sine.toml", "--set", "board.store=true", "--rounds", "2", "--learned", "32"]
    said = " ".join(CliRunner().invoke(application(), words).stdout.split())
    assert "an estimate" in said and "mAh of a battery" in said and "not measured on a board" in said
    assert "The store saves 2.0 times a day, 9,304 bytes; the flash lasts" in said
    with pytest.raises(tmf.UsageError, match=r"board 'mps2' has no 'estimates' in .*mps2\.json; name a real board"):
        day_of(board="mps2")
