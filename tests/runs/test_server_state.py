"""What the server keeps between rounds is in the store: a run that is killed anywhere ends in the weights of a whole one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from small_runs import SINE, Quiet, sine

import tinymetafed as tmf
from tinymetafed.federation.clients import Adapted, DeviceFacts, Served, Traffic
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.server_optimiser import ServerState
from tinymetafed.learn.strategies import Strategy
from tinymetafed.learn.weights import Floats, initial, sha256
from tinymetafed.runs import rest_of_run, store, training
from tinymetafed.runs.run_errors import StoreError
from tinymetafed.runs.setup import Setup, set_up

FEW = ("run.rounds=6", "run.devices_per_round=3", "evaluation.tasks=2", "evaluation.every=0", "strategy.average_last=0.5")
RANDOM = "strategy.selection=random"
SECURE = ("privacy.secure_aggregation=true", RANDOM)
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "trimmed": ("strategy.defence=trimmed",),
    "bound": ("strategy.defence=bound",),
    "secure sums": SECURE,
    "private": ("privacy.clip=0.5", "privacy.noise=0.5", RANDOM),
    "private secure sums": ("privacy.clip=0.5", "privacy.noise=0.5", *SECURE),
    "by difference": ("strategy.download=difference",),
    "fedavg": ("strategy.kind=fedavg",),
    "fedsgd": ("strategy.kind=fedsgd",),
}
DEVICE = DeviceFacts("made-up", "native", "", 1024)


class MadeUp:
    """Clients whose updates are random numbers, the same for the same client and round."""

    traffic = Traffic()
    devices = (DEVICE,)

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    def exclude(self, board: str, why: str) -> None:
        raise AssertionError(why)

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        return [Served(self._delta(client, round_), DEVICE.url, redone=False, note="") for client in clients]

    def _delta(self, client: int, round_: int) -> Sparse:
        strategy = self._strategy
        generator = np.random.default_rng((client, round_))
        at = np.sort(np.random.default_rng(round_).permutation(strategy.n_global)[: strategy.top_k])
        values = generator.normal(scale=0.01, size=at.size)
        if strategy.secure_sum is not None:
            values = generator.integers(-3, 4, at.size) % 2**16
        return Sparse(at, values.astype(np.float32))

    def adapt(self, *_: object) -> list[Adapted]:
        raise AssertionError("not tested")


def trained(setup: Setup, kind: str, parts: Sequence[int]) -> list[Round]:
    """The rounds of a run that stops after so many rounds each time, and goes on from what the store would have."""
    clients = MadeUp(setup.strategy)
    done: list[Round] = []
    weights, server = initial(setup.design.manifest, 1, "glorot"), ServerState()
    for until in parts:
        made = rounds(setup.strategy, setup.task, clients, weights, len(done), server=server)  # type: ignore[arg-type]
        done += [next(made) for _ in range(until - len(done))]
        weights, server = done[-1].weights.copy(), ServerState.of(dict(done[-1].server.parts()), done[-1].server.averaged)
    return done


@pytest.mark.parametrize("kind", ["momentum", "adam", "yogi"])
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_an_optimiser_works_with_everything_that_comes_before_it(kind: str, combination: str) -> None:
    keys = (*FEW, f"strategy.server={kind}", *COMBINATIONS[combination])
    setup = set_up(sine(*keys), str(SINE), None)
    whole = trained(setup, kind, [6])
    for parts in ([1, 6], [4, 6], [2, 3, 5, 6]):
        again = trained(setup, kind, parts)
        assert [each.weights.tobytes() for each in again] == [each.weights.tobytes() for each in whole]
        assert again[-1].server.sha256 == whole[-1].server.sha256
    assert np.isfinite(whole[-1].weights).all() and whole[-1].server.averaged == 3
    plain = trained(set_up(sine(*FEW, *COMBINATIONS[combination]), str(SINE), None), kind, [6])
    assert not np.array_equal(plain[-1].weights, whole[-1].weights)


class Killed(BaseException):
    """Ends a run as a kill does: nothing after it is done."""


def killed_after(done_rounds: int, keys: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as a kill leaves it after some rounds, of which the file on disk has those that were committed."""
    genuine = rest_of_run.RestOfRun._write

    def write(self: rest_of_run.RestOfRun, done: Round) -> None:
        genuine(self, done)
        if done.index + 1 == done_rounds:
            self._run.commit()
            shutil.copytree(self._run.path, folder)
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(rest_of_run.RestOfRun, "_write", write)
        training.simulate(set_up(sine(*FEW, *keys), str(SINE), None), 1, folder.with_suffix(".first"), Quiet())


@pytest.mark.parametrize(
    "keys", [("strategy.server=yogi",), ("run.keep=best", "evaluation.every=2", "evaluation.every_tasks=2")]
)
def test_a_killed_run_ends_in_the_weights_of_a_whole_one(
    keys: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.simulate(set_up(sine(*FEW, *keys), str(SINE), None), 1, tmp_path / "whole", Quiet())
    expected = store.read_run(tmp_path / "whole")
    assert whole.averaged == (3 if whole.kept_round is None else {2: None, 4: 1, 6: 3}[whole.kept_round])
    assert whole.weights_sha256 == sha256(expected.kept)
    for done in (1, 4, 6):
        folder = tmp_path / f"killed-{done}"
        killed_after(done, keys, folder, monkeypatch)
        assert store.read_run(folder).trained == done
        continued = training.resume_simulated(folder, 1, Quiet())
        found = store.read_run(folder)
        assert continued.weights_sha256 == whole.weights_sha256
        assert found.server.sha256 == expected.server.sha256 != ""
        assert np.array_equal(found.weights, expected.weights)


def test_the_average_is_tested_exported_and_reported(tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(SINE, [*FEW, "run.rounds=9"]), out=tmp_path / "run", progress=False)
    data = run.data
    average = data.server.average
    assert average is not None and data.averaged == 5 and not np.array_equal(average, data.weights)  # 4.5 is rounded up
    assert run.weights_sha256 == sha256(average) and run.result is not None and run.result.as_json()["averaged"] == 5
    assert data.rounds[-1].weights_sha256 == sha256(data.weights)  # training goes on from the last weights
    with np.load(run.export(tmp_path / "w.npz")) as arrays:
        assert np.array_equal(np.concatenate([arrays[t.name].ravel() for t in data.manifest.global_tensors]), average)
    assert "mean of the weights after the last 5 rounds" in run.report().read_text(encoding="utf-8")
    assert "mean of 5 rounds" in run.export(tmp_path / "w.h").read_text()


def test_an_extended_run_averages_its_last_rounds_and_says_so(tmp_path: Path) -> None:
    settings = {"run.rounds": 4, "strategy.schedule": "constant", "strategy.average_last": 0.5, "evaluation.tasks": 2}
    run = tmf.simulate(tmf.load(SINE, settings), out=tmp_path / "run", progress=False)
    said: list[str] = []
    longer = tmf.resume(run.path, rounds=10, progress=lambda progress: said.append(progress.event))
    whole = tmf.simulate(tmf.load(SINE, settings | {"run.rounds": 10}), out=tmp_path / "whole", progress=False)
    assert longer.weights_sha256 == whole.weights_sha256 and longer.data.averaged == 5 and not any(said)
    again = tmf.resume(run.path, rounds=12, progress=lambda progress: said.append(progress.event))
    assert again.data.averaged == 2 and any("strategy.average_last" in line and "round 10" in line for line in said)


def test_runs_without_such_keys_keep_their_format(tmp_path: Path) -> None:
    training.simulate(set_up(sine("run.rounds=2", "evaluation.tasks=1"), str(SINE), None), 1, tmp_path / "run", Quiet())
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        journal = [text for (text,) in database.execute("SELECT content FROM journal WHERE kind IN ('round', 'result')")]
    assert tables == {"journal", "weights"} and not any('"server"' in text or '"averaged"' in text for text in journal)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM server WHERE name = 'momentum'", "what the server keeps is not that of its 2 rounds"),
        ("DROP TABLE server", "what the server keeps is not that of its 2 rounds"),
        ("UPDATE server SET float32 = zeroblob(8)", "the server's momentum is not .* float32 numbers after 2 rounds"),
        ("UPDATE server SET float32 = zeroblob(length(float32))", "what the server keeps is not that of its 2 rounds"),
        ("UPDATE server SET round = 1", "float32 numbers after 2 rounds"),
        ("DROP TABLE server; CREATE VIEW server AS SELECT 1", "no such table: server"),
    ],
)
def test_damage_of_what_the_server_keeps_is_found(change: str, words: str, tmp_path: Path) -> None:
    keys = ("run.rounds=2", "evaluation.tasks=1", "strategy.server=momentum")
    training.simulate(set_up(sine(*keys), str(SINE), None), 1, tmp_path / "run", Quiet())
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database:
        database.executescript(change)
    with pytest.raises(StoreError, match=words):
        store.read_run(tmp_path / "run")
