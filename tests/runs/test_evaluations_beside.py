"""Evaluations on the way run beside the rounds, on devices that do not train; none is lost, whenever the run stops."""

from __future__ import annotations

import csv
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from clocks import HUNG_SECONDS
from small_runs import Quiet, sine
from stand_ins import StandIn, fleet, silent, work

from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.federation.result import Evaluation
from tinymetafed.runs import training
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.runs.store import read_run
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.simulation.simulated_clients import SimulatedClients
from tinymetafed.trackers.run_logs import logged
from tinymetafed.trackers.trackers_by_name import trackers
from tinymetafed_codegen.protocol import Program, Recipe

SETTINGS = ("run.rounds=40", "evaluation.every=10", "evaluation.every_tasks=2", "evaluation.tasks=3")
ROUNDS_LOOKED_AT = [10, 20, 30, 40]


def nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Apart:
    """Simulated clients to train on, and others to test on, as devices are; both are told of before they begin.

    ``on_train`` is told the round, ``on_test`` the number of clients.
    """

    hold_seconds: ClassVar[float] = 0.0
    on_train: Callable[[int], None] = nothing
    on_test: Callable[[int], None] = nothing
    threads: int = 1
    shared: None = None
    rounds: list[int] = field(default_factory=list)

    def has_stores(self, setup: Setup) -> bool:
        return False

    @contextmanager
    def open(self, setup: Setup, observer: Any) -> Iterator[tuple[SimulatedClients, SimulatedClients]]:
        trainers, testers = (SimulatedClients(open_kernels(setup.design, 1), setup.strategy, setup.task) for _ in range(2))
        train, adapt = trainers.train, testers.adapt

        def told_train(weights: Any, clients: Any, round_: int, boards: Any = None) -> Any:
            self.on_train(round_)
            self.rounds.append(round_)
            return train(weights, clients, round_, boards)

        def told_adapt(weights: Any, clients: Any, *rest: Any, **keys: Any) -> Any:
            self.on_test(len(clients))
            return adapt(weights, clients, *rest, **keys)

        trainers.train, testers.adapt = told_train, told_adapt  # type: ignore[method-assign]
        yield trainers, testers


def setup(*more: str) -> Setup:
    return set_up(sine(*SETTINGS, *more), "test", None)


def start(place: Apart, folder: Path, *more: str) -> RunData:
    training.simulate_at(place, setup(*more), folder, Quiet())  # type: ignore[arg-type]  # another kind of place
    return read_run(folder)


def resume(folder: Path, place: Apart | None = None) -> RunData:
    training.resume_at(place or Apart(), folder, Quiet())  # type: ignore[arg-type]
    return read_run(folder)


def untimed(run: RunData) -> list[Evaluation]:
    return [replace(each, seconds=0.0) for each in run.evaluations]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """The run whose evaluations are done between its rounds."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    training.simulate(setup(), 1, folder, Quiet())
    return read_run(folder)


def test_rounds_go_on_during_an_evaluation_and_nothing_changes(tmp_path: Path, plain: RunData) -> None:
    later = threading.Event()

    def wait(clients: int) -> None:
        assert later.wait(HUNG_SECONDS), "no round was trained during the evaluation"

    def tell(round_: int) -> None:
        if round_ >= 15:
            later.set()

    run = start(Apart(tell, wait), tmp_path / "run")
    assert untimed(run) == untimed(plain) and run.weights.tobytes() == plain.weights.tobytes()
    assert [each.round for each in run.evaluations] == ROUNDS_LOOKED_AT
    assert run.evaluating is None
    assert run.result is not None and plain.result is not None and run.result.meta_test == plain.result.meta_test


def test_logs_have_the_scores_at_their_rounds(tmp_path: Path, plain: RunData) -> None:
    later = threading.Event()

    def wait(clients: int) -> None:
        assert later.wait(HUNG_SECONDS)

    def tell(round_: int) -> None:
        if round_ >= 15:
            later.set()

    with logged(Quiet(), trackers("csv"), tmp_path / "run") as observer:
        training.simulate_at(Apart(tell, wait), setup(), tmp_path / "run", observer)  # type: ignore[arg-type]
    with (tmp_path / "run" / "csv" / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == [str(each) for each in range(1, 41)]
    scores = {int(row["round"]): float(row["after"]) for row in rows if row["after"]}
    assert scores == {each.round: each.after for each in plain.evaluations if not each.per_task} and len(scores) == 3


def test_the_next_evaluation_waits_for_the_one_before(tmp_path: Path, plain: RunData) -> None:
    place = Apart()
    at_once = threading.Semaphore(1)

    def alone(clients: int) -> None:
        assert at_once.acquire(blocking=False)
        at_once.release()

    run = start(replace(place, on_test=alone), tmp_path / "run", "evaluation.every=1")
    assert [each.round for each in run.evaluations] == list(range(1, 41))


class Stop(Exception):
    """Ends a run as a crash would."""


@pytest.mark.parametrize("keep", ["last", "best"])
def test_an_evaluation_that_was_interrupted_is_done_when_the_run_continues(tmp_path: Path, keep: str) -> None:
    whole = start(Apart(), tmp_path / "whole", f"run.keep={keep}")
    ended = threading.Event()

    def stop(round_: int) -> None:
        if round_ == 15:
            raise Stop

    def hang(clients: int) -> None:
        assert ended.wait(HUNG_SECONDS)
        raise Stop

    with pytest.raises(Stop):
        start(Apart(stop, hang), tmp_path / "run", f"run.keep={keep}")
    run = read_run(tmp_path / "run")
    assert run.trained == 15 and run.evaluations == []
    assert run.evaluating is not None and run.evaluating.round == 10
    ended.set()
    with pytest.raises(Stop):  # once more, before anything is evaluated
        resume(tmp_path / "run", Apart(stop))
    done = resume(tmp_path / "run")
    assert untimed(done) == untimed(whole)
    assert done.weights.tobytes() == whole.weights.tobytes() and done.kept.tobytes() == whole.kept.tobytes()
    assert done.evaluating is None


def test_what_fails_in_an_evaluation_ends_the_run(tmp_path: Path, plain: RunData) -> None:
    def fail(clients: int) -> None:
        raise LinkError("no device is left")

    with pytest.raises(LinkError, match="no device is left"):
        start(Apart(on_test=fail), tmp_path / "run")
    assert untimed(resume(tmp_path / "run")) == untimed(plain)


@pytest.mark.parametrize("change", ["float32 = zeroblob(length(float32))", "round = 99", "sha256 = ''", "round = 'x'"])
def test_damaged_weights_of_an_evaluation_are_found(tmp_path: Path, change: str) -> None:
    ended = threading.Event()

    def stop(round_: int) -> None:
        if round_ == 12:
            raise Stop

    with pytest.raises(Stop):
        start(Apart(stop, lambda clients: nothing(ended.wait(HUNG_SECONDS))), tmp_path / "run")
    ended.set()
    database = sqlite3.connect(tmp_path / "run" / "run.db")
    try:
        database.execute(f"UPDATE OR IGNORE evaluating SET {change}")
        database.commit()
    except sqlite3.IntegrityError:
        return  # the table holds no such value
    finally:
        database.close()
    with pytest.raises(StoreError, match=r"damaged: the weights that were evaluated are not 1,120 float32 numbers"):
        read_run(tmp_path / "run")


def test_the_end_of_a_fleet_ends_what_another_thread_does_with_it() -> None:
    begun, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []
    both = fleet(StandIn("a"), StandIn("b"))

    def one(session: Any, item: int) -> int:
        begun.set()
        assert ended.wait(HUNG_SECONDS)
        return work(session, item)

    def others() -> None:
        try:
            both.map(range(100), one)
        except LinkError as error:
            raised.append(error)

    with both:
        thread = threading.Thread(target=others)
        thread.start()
        assert begun.wait(HUNG_SECONDS)
        threading.Timer(0.05, ended.set).start()
    thread.join(HUNG_SECONDS)
    assert not thread.is_alive() and [str(error) for error in raised] == ["the devices are being stopped"]
    with pytest.raises(LinkError, match="being stopped"):
        both.map([1], work)


def test_the_end_of_a_fleet_ends_the_wait_for_devices_that_are_lost() -> None:
    begun, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    class Silent(StandIn):
        def configure(self, *_: Any) -> None:
            begun.set()
            assert ended.wait(HUNG_SECONDS)
            raise silent(self.url)

    both = fleet(Silent("a", away=1e9), Silent("b", away=1e9), patience=math.inf)

    def others() -> None:
        try:
            both.configure(Program.ADAPT, Recipe(()))
        except LinkError as error:
            raised.append(error)

    thread = threading.Thread(target=others, daemon=True)
    with both:
        thread.start()
        assert begun.wait(HUNG_SECONDS)
        threading.Timer(0.05, ended.set).start()
    thread.join(HUNG_SECONDS)
    assert not thread.is_alive() and [str(error) for error in raised] == ["the devices are being stopped"]
