"""The round loop on real firmware: the same weights whatever the faults of the line, and complete contributions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import SINE, Quiet, manifest, needs_qemu, sine

from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link import faults
from tinymetafed.devices.running import running
from tinymetafed.federation import rounds as server
from tinymetafed.federation.rounds import Round, digest
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import Strategy, StrategyError
from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.learn.weights import Floats, initial, sha256
from tinymetafed.runs.setup import design_of, set_up

pytestmark = pytest.mark.usefixtures("built_once")
ROUNDS = 40
BAD_CABLE = "flip=0.01,drop=0.003,duplicate=0.005,insert=0.003,truncate=0.003,delay=1ms,disconnect=0.002,reboot=0.005,seed=5"


@contextmanager
def federation(
    url: str, rounds: int, plan: str = "", start: int = 0, weights: Floats | None = None
) -> Iterator[tuple[Fleet, Iterator[Round]]]:
    experiment = sine(f"run.rounds={rounds}", "run.devices_per_round=3")
    setup = set_up(experiment, str(SINE), None)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init) if weights is None else weights
    with running(design_of(experiment, str(SINE)), [url], Quiet(), faults=faults.parse(plan) if plan else None) as fleet:
        fleet.roster.patience = HUNG_SECONDS  # a process that a busy machine starts slowly is not lost
        clients = DeviceClients(fleet, setup.strategy, setup.task)
        yield fleet, server.rounds(setup.strategy, setup.task, clients, first, start)


def weights_of(url: str, rounds: int, plan: str = "") -> str:
    with federation(url, rounds, plan) as (_, done):
        return sha256([each.weights for each in done][-1])


def test_a_bad_cable_and_reboots_change_no_weight() -> None:
    with federation("native:3", ROUNDS, BAD_CABLE) as (_, done):
        rounds = list(done)
    assert sha256(rounds[-1].weights) == weights_of("native:1", ROUNDS)
    statuses = [part.status for each in rounds for part in each.contributions]
    assert statuses.count("redone") > 0 and "skipped" not in statuses
    assert all(part.note for each in rounds for part in each.contributions if part.status == "redone")
    assert sum(each.traffic.retries for each in rounds) > 0


@needs_qemu
def test_emulated_boards_on_a_bad_cable_reach_the_same_weights() -> None:
    assert weights_of("qemu:2", 8, "flip=0.01,reboot=0.004,delay=1ms,seed=2") == weights_of("native:2", 8)


def test_a_board_killed_between_rounds_is_started_again() -> None:
    with federation("native:2", 12) as (fleet, done):
        for each in done:
            if each.index % 4 == 0:
                process = fleet.devices[each.index // 4 % 2].process
                assert process is not None
                process.kill()
        assert sha256(each.weights) == weights_of("native:1", 12)


def test_interrupted_rounds_continue_to_the_same_weights() -> None:
    with federation("native:2", 10) as (_, done):
        whole = list(done)
    with federation("native:2", 10, start=6, weights=whole[5].weights) as (_, done):
        rest = list(done)
    assert [each.index for each in rest] == [6, 7, 8, 9]
    assert sha256(rest[-1].weights) == sha256(whole[-1].weights)
    assert [part.digest for part in rest[0].contributions] == [part.digest for part in whole[6].contributions]


@pytest.mark.usefixtures("patient")
def test_contributions_name_client_device_and_entries() -> None:
    experiment = sine()
    with federation("native:2", 1) as (fleet, done):
        (only,) = done
        assert {part.device for part in only.contributions} <= {device.url for device in fleet.devices}
        assert only.traffic == fleet.traffic - (fleet.traffic - only.traffic) and only.traffic.up > 0
    assert len({part.client for part in only.contributions}) == 3
    half = manifest(experiment).n_global // 2
    assert all((part.status, part.note, part.entries) == ("accepted", "", half) for part in only.contributions)


def test_a_strategy_cannot_train_on_who_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation("native:1", 3) as (_, done):
        monkeypatch.setattr(Strategy, "clients", lambda self, round_, of: [0, 1, HELD_OUT if round_ else 2])
        next(done)
        with pytest.raises(StrategyError, match=f"round 1: the strategy chose client {HELD_OUT}, but .* 0 to 999; held-out"):
            next(done)


def test_a_strategy_cannot_choose_a_client_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation("native:1", 3) as (_, done):
        monkeypatch.setattr(Strategy, "clients", lambda self, round_, of: [4, 7, 4])
        with pytest.raises(
            StrategyError, match=r"round 0: the strategy chose clients \[4, 7, 4\]; choose each client only once"
        ):
            next(done)


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (None, r"gave NoneType, expected float32 \[1120\]; compute in"),
        (np.zeros(1120), r"gave float64 \[1120\], expected"),
        (np.zeros(1119, np.float32), r"gave float32 \[1119\], expected"),
        (np.full(1120, np.nan, np.float32), "a weight that is not finite"),
    ],
)
def test_an_invalid_update_is_refused(moved: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Strategy, "update", lambda *_: moved)
    with federation("native:1", 1) as (_, done), pytest.raises(StrategyError, match=said):
        next(done)


def test_the_digest_is_of_indices_then_values() -> None:
    update = Sparse(np.array([1, 5], np.int64), np.array([0.5, -2.0], np.float32))
    content = bytes.fromhex("010000000000000005000000000000000000003f000000c0")
    assert digest(update) == hashlib.sha256(content).hexdigest()
