"""One device, message by message, in every case of the protocol; the essential cases on every kind of device."""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS, SlowClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import ALL, CLIENT, MODELS, ROUND, SEED, Board, Boards, board_of, devices, raw

from tinymetafed.devices.link.link_errors import DeviceRefused, DeviceSilent
from tinymetafed.learn.codecs import delta
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import (
    Await,
    Configure,
    Dtype,
    Fetch,
    Load,
    Phase,
    Predict,
    Program,
    Pull,
    Recipe,
    SampleSet,
    Selection,
    State,
    Status,
    Train,
    Variant,
    payload_capacity,
)

essential = pytest.mark.essential
both_models = pytest.mark.parametrize("model", ["sine", "streamed"])
all_downlinks = pytest.mark.parametrize("model", list(MODELS))
streamed = pytest.mark.parametrize("model", ["streamed"])

STEP = Phase(Variant.GLOBAL, SampleSet.QUERY, 4, 1, 0.01, 0.0)


def f32(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


# --- Hello ---


@pytest.mark.parametrize("url", devices(ALL))
def test_every_kind_of_device_says_which_board_it_is(boards: Boards, url: str) -> None:
    assert boards(url, "sine").device.board == board_of(url)


@essential
@both_models
def test_hello_names_model_and_window(board: Board, model: str) -> None:
    hello = board.session.hello()
    board.session.check(hello, board.manifest, "")
    assert hello.schema_hash == protocol.schema_hash()
    assert hello.model_hash.hex() == board.manifest.model_hash
    assert hello.unique_id == board.device.hello.unique_id != bytes(8)
    assert hello.receive_window == board.manifest.receive_window >= protocol.MIN_RECEIVE_WINDOW
    assert hello.ticks_per_second > 0


# --- Configure ---


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"program": 2}, Status.BAD_VALUE),
        ({"top_k": 1121}, Status.BAD_VALUE),
        ({"uplink": Dtype.U8}, Status.BAD_VALUE),
        ({"uplink": 9}, Status.BAD_VALUE),
        ({"selection": 3}, Status.BAD_VALUE),
        ({"top_k": 1, "selection": Selection.LAYER}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, variant=3),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, sample_set=4),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, count=0),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, learning_rate=0.0),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, learning_rate=-0.1),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, learning_rate=float("nan")),)}, Status.NOT_FINITE),
        ({"phases": (dataclasses.replace(STEP, learning_rate=float("inf")),)}, Status.NOT_FINITE),
        ({"phases": (dataclasses.replace(STEP, output_clamp=-1.0),)}, Status.BAD_VALUE),
        ({"phases": (dataclasses.replace(STEP, output_clamp=float("nan")),)}, Status.NOT_FINITE),
        (
            {
                "phases": (
                    STEP,
                    dataclasses.replace(STEP, variant=3),
                )
            },
            Status.BAD_VALUE,
        ),
        ({"phases": (dataclasses.replace(STEP, count=65535, passes=65535),) * 4}, Status.BAD_VALUE),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else next(iter(value)),
)
def test_a_refused_configuration_changes_nothing(board: Board, change: dict[str, Any], status: Status) -> None:
    board.configure()
    board.load(1, board.weights())
    recipe = Recipe((STEP,), 3)
    good = Configure(board.session.session, Program.TRAIN, recipe)
    board.session.request(good)
    in_recipe = {name: value for name, value in change.items() if name != "program"}
    bad = dataclasses.replace(good, program=change.get("program", 0), recipe=dataclasses.replace(recipe, **in_recipe))
    assert board.refusal(bad)[0] == status
    assert board.refusal(dataclasses.replace(bad, session=good.session ^ 1))[0] == status
    board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    assert board.session.await_done(1, STEP.count).step == STEP.count
    assert sum(chunk.count for chunk in board.session.pull(1, 3)) == 3


@essential
def test_the_same_configuration_again_changes_nothing(board: Board) -> None:
    board.configure()
    board.load(1, board.weights())
    board.configure()
    assert board.train(1).state == State.DONE


def test_a_new_session_forgets_the_round(board: Board) -> None:
    board.configure()
    board.load(9, board.weights())
    board.train(9)
    board.forget()
    assert board.session.request(Await(9, 0)).state == State.DONE  # until it is configured again
    board.session.configure(Program.ADAPT, Recipe(board.strategy.adaptation(4)))
    assert board.refusal(Await(9, 0))[0] == Status.BAD_STATE
    assert board.refusal(Fetch(0, 1))[0] == Status.BAD_STATE
    assert board.refusal(Pull(9, 0))[0] == Status.BAD_STATE
    board.load(1, board.weights(1))  # a token below 9 is valid in the new session
    assert board.refusal(Train(1, Program.TRAIN, SEED, CLIENT, ROUND))[0] == Status.BAD_STATE  # its recipe is forgotten too
    assert board.session.train(1, Program.ADAPT, SEED, CLIENT, ROUND).state in (State.TRAINING, State.DONE)


# --- Load ---


@essential
@all_downlinks
def test_the_device_holds_the_weights_that_were_encoded(board: Board, model: str) -> None:
    board.configure()
    received = board.load(1, board.weights())
    weights = board.fetch()
    np.testing.assert_array_equal(weights[: board.n_global], received)
    local = weights[board.n_global :]
    board.load(2, board.weights(2))
    np.testing.assert_array_equal(board.fetch()[board.n_global :], local)  # each round starts from the same weights


def test_chunks_go_in_order_and_repeated_ones_do_nothing(board: Board) -> None:
    board.configure()
    session, weights = board.session, board.weights()
    assert board.refusal(Load(1, 8, Dtype.F32, 0.0, weights[8:16].tobytes())) == (Status.BAD_OFFSET, 0)
    first = Load(1, 0, Dtype.F32, 0.0, weights[:16].tobytes())
    assert session.request(first).next_offset == 16
    assert board.refusal(Load(1, 32, Dtype.F32, 0.0, weights[32:40].tobytes())) == (Status.BAD_OFFSET, 16)
    assert session.request(first).next_offset == 16
    assert session.request(dataclasses.replace(first, data=f32(*[9.0] * 16))).next_offset == 16
    assert board.refusal(Fetch(0, 1))[0] == Status.BAD_STATE
    for at in range(16, board.n_global, 100):
        chunk = weights[at : at + 100]
        assert session.request(Load(1, at, Dtype.F32, 0.0, chunk.tobytes())).next_offset == at + len(chunk)
    np.testing.assert_array_equal(board.fetch()[: board.n_global], weights)
    assert session.request(dataclasses.replace(first, data=f32(*[9.0] * 16))).next_offset == board.n_global
    np.testing.assert_array_equal(board.fetch()[: board.n_global], weights)


def test_a_repeated_load_after_training_does_not_undo_it(board: Board) -> None:
    board.configure()
    board.load(1, board.weights())
    board.train(1)
    trained = board.fetch()
    board.load(1, board.weights())
    np.testing.assert_array_equal(board.fetch(), trained)


@pytest.mark.parametrize(
    ("load", "status"),
    [
        ({"data": f32(1, float("nan"))}, Status.NOT_FINITE),
        ({"data": f32(float("-inf"))}, Status.NOT_FINITE),
        ({"scale": float("nan")}, Status.NOT_FINITE),
        ({"dtype": Dtype.F16}, Status.BAD_VALUE),  # the model's downlink is F32
        ({"dtype": Dtype.I8}, Status.BAD_VALUE),
        ({"dtype": Dtype.U8}, Status.BAD_VALUE),
        ({"dtype": 77}, Status.BAD_VALUE),
        ({"data": b""}, Status.BAD_LENGTH),
        ({"data": b"\0" * 7}, Status.BAD_LENGTH),
        ({"offset": 1120}, Status.BAD_OFFSET),
        ({"offset": 0xFFFFFFFF}, Status.BAD_OFFSET),
        ({"offset": 1119}, Status.BAD_OFFSET),
        ({"token": 4}, Status.BAD_TOKEN),
        ({"token": 0}, Status.BAD_TOKEN),
    ],
    ids=str,
)
def test_a_refused_load_leaves_weights_and_round_alone(board: Board, load: dict[str, Any], status: Status) -> None:
    board.configure()
    board.load(5, board.weights())
    before = board.fetch()
    message = dataclasses.replace(Load(6, 0, Dtype.F32, 0.0, f32(1, 2)), **load)
    refused, detail = board.refusal(message)
    assert refused == status
    assert status != Status.BAD_TOKEN or detail == 5
    np.testing.assert_array_equal(board.fetch(), before)
    assert board.session.request(Await(5, 0)).state == State.LOADED


@pytest.mark.parametrize("model", ["sine-f16"])
def test_a_float16_that_is_not_finite_is_refused(board: Board, model: str) -> None:
    board.configure()
    board.load(5, board.weights())
    before = board.fetch()
    for bad in (b"\x00\x7c", b"\x00\xfc", b"\x01\x7e"):  # both infinities, NaN
        assert board.refusal(Load(6, 0, Dtype.F16, 0.0, b"\x00\x3c" + bad))[0] == Status.NOT_FINITE
    assert board.refusal(Load(6, 0, Dtype.F32, 0.0, f32(1, 2)))[0] == Status.BAD_VALUE
    np.testing.assert_array_equal(board.fetch(), before)
    assert board.session.request(Await(5, 0)).state == State.LOADED


@streamed
def test_int8_keeps_to_one_tensor_and_its_scale(board: Board, model: str) -> None:
    board.configure()
    board.load(5, board.weights())
    before = board.fetch()
    first, second, *_ = [tensor.size for tensor in board.manifest.parameters]
    whole = Load(6, 0, Dtype.I8, 0.5, bytes(range(1, first + 1)))
    assert board.refusal(dataclasses.replace(whole, data=whole.data + b"\1"))[0] == Status.BAD_LENGTH
    assert board.refusal(dataclasses.replace(whole, scale=3e38))[0] == Status.NOT_FINITE
    assert board.refusal(dataclasses.replace(whole, dtype=Dtype.F32, data=f32(1)))[0] == Status.BAD_VALUE
    np.testing.assert_array_equal(board.fetch(), before)
    assert board.session.request(dataclasses.replace(whole, data=whole.data[:3])).next_offset == 3
    rest = dataclasses.replace(whole, offset=3, data=whole.data[3:])
    for scale in (0.25, -0.5, 0.0):
        assert board.refusal(dataclasses.replace(rest, scale=scale)) == (Status.BAD_VALUE, 3)
    assert board.session.request(rest).next_offset == first
    assert board.session.request(Load(6, first, Dtype.I8, 0.25, bytes(second))).next_offset == first + second


# --- Train and Await ---


def test_train_is_refused_in_the_wrong_state(board: Board) -> None:
    train = Train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    board.session.configure(Program.TRAIN, Recipe(board.strategy.training(), 3))
    assert board.refusal(train)[0] == Status.BAD_STATE
    board.session.request(Load(1, 0, Dtype.F32, 0.0, f32(1, 2)))
    assert board.refusal(train)[0] == Status.BAD_STATE
    board.load(2, board.weights())
    assert board.refusal(train) == (Status.BAD_TOKEN, 2)
    assert board.refusal(dataclasses.replace(train, token=3)) == (Status.BAD_TOKEN, 2)
    assert board.refusal(dataclasses.replace(train, token=2, program=2))[0] == Status.BAD_VALUE
    assert board.refusal(dataclasses.replace(train, token=2, program=Program.ADAPT))[0] == Status.BAD_STATE
    assert board.refusal(Pull(2, 0))[0] == Status.BAD_STATE


@essential
@both_models
def test_training_repeated_does_not_train_twice(board: Board, model: str) -> None:
    board.configure()
    board.load(1, board.weights())
    loaded = board.fetch()
    done = board.train(1)
    assert (done.state, done.step, done.fault) == (State.DONE, board.steps(Program.TRAIN), Status.OK)
    trained = board.fetch()
    assert (trained[: board.n_global] != loaded[: board.n_global]).any()
    assert (trained[board.n_global :] != loaded[board.n_global :]).any()
    for other in (CLIENT, CLIENT + 1):
        again = board.session.train(1, Program.TRAIN, SEED, other, ROUND)
        assert (again.state, again.step) == (State.DONE, done.step)
    np.testing.assert_array_equal(board.fetch(), trained)


def test_the_same_round_again_gives_the_same_weights_and_another_client_others(board: Board) -> None:
    board.configure()
    results = []
    for token, client in ((1, CLIENT), (2, CLIENT), (3, CLIENT + 1)):
        board.load(token, board.weights())
        board.session.train(token, Program.TRAIN, SEED, client, ROUND)
        board.session.await_done(token, board.steps(Program.TRAIN))
        results.append(board.fetch())
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


@essential
def test_await_answers_at_the_step_it_names(board: Board) -> None:
    board.configure()
    board.load(1, board.weights())
    assert board.session.request(Await(1, 0)).state == State.LOADED
    assert board.session.request(Await(1, 10)).state == State.LOADED  # no step is trained, so waiting cannot reach it
    board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    assert board.session.request(Await(1, 11)).step >= 11
    done = board.session.request(Await(1, 0xFFFFFFFF))  # beyond the last step: answered when training has ended
    assert (done.state, done.step) == (State.DONE, board.steps(Program.TRAIN))
    assert board.refusal(Await(2, 0)) == (Status.BAD_TOKEN, 1)


def test_no_recipe_changes_under_a_running_program(board: Board) -> None:
    board.session.configure(Program.TRAIN, Recipe((dataclasses.replace(STEP, count=1000, passes=65),)))
    board.load(1, board.weights())
    assert board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND).state == State.TRAINING
    with pytest.raises(DeviceRefused, match="BAD_STATE"):
        board.configure()
    assert board.refusal(Await(2, 0xFFFFFFFF)) == (Status.BAD_TOKEN, 1)  # answered at once: there is no such round to wait for
    board.forget()
    board.configure()  # a new session ends the training
    assert board.refusal(Await(1, 0))[0] == Status.BAD_STATE


def test_training_that_diverges_fails_without_a_delta(board: Board) -> None:
    wild = dataclasses.replace(STEP, count=50, learning_rate=1e30)
    board.session.configure(Program.TRAIN, Recipe((wild,), 3))
    board.load(1, board.weights())
    board.session.request(Train(1, Program.TRAIN, SEED, CLIENT, ROUND))
    failed = board.session.request(Await(1, wild.count))
    assert (failed.state, failed.fault) == (State.FAILED, Status.NOT_FINITE)
    assert board.refusal(Pull(1, 0))[0] == Status.BAD_STATE
    board.configure()
    board.load(2, board.weights())  # the next round trains again
    assert board.train(2).state == State.DONE


def test_the_detail_of_a_refusal_is_its_own(board: Board) -> None:
    board.configure()
    board.load(5, board.weights())
    assert board.refusal(Await(6, 0)) == (Status.BAD_TOKEN, 5)
    assert board.refusal(Pull(5, 0)) == (Status.BAD_STATE, 0)


# --- The delta ---


@all_downlinks
@pytest.mark.parametrize("uplink", [Dtype.F32, Dtype.F16, Dtype.I8])
@pytest.mark.parametrize(
    ("share", "selection"), [(1, Selection.GLOBAL), (100, Selection.GLOBAL), *((50, selection) for selection in Selection)]
)
def test_the_delta_is_the_hosts_own_selection(
    board: Board, model: str, uplink: Dtype, share: int, selection: Selection
) -> None:
    k = max(1, board.n_global * share // 100)
    board.configure(k, uplink, selection)
    received = board.load(1, board.weights())
    board.train(1)
    change = board.fetch()[: board.n_global] - received
    capacity = payload_capacity(board.device.hello.receive_window) - protocol.Delta.fixed_size()
    chunks = board.session.pull(1, k)
    select = {
        Selection.GLOBAL: delta.select_top,
        Selection.LAYER: partial(delta.select_by_layer, layer_ends=board.manifest.layer_ends),
        Selection.RANDOM: partial(delta.select_random, seed=SEED, client=CLIENT, round=ROUND),
    }[selection]
    assert chunks == delta.encode(change, k, uplink, capacity, token=1, select=select)
    found = delta.decode(chunks, n=board.n_global, k=k, token=1)
    np.testing.assert_array_equal(found.indices, select(change, k))
    if uplink == Dtype.F32:
        np.testing.assert_array_equal(found.values, change[found.indices])


@essential
@both_models
def test_no_answer_is_longer_than_the_window(board: Board, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = board.session
    board.configure(board.n_global, Dtype.F32)
    board.load(1, board.weights())
    board.train(1)
    monkeypatch.setattr(session, "clock", SlowClock())  # a slow clock: a busy machine must cause no repeat
    for message in (Pull(1, 0), Fetch(0, 0xFFFF)):
        before = session.traffic
        session.request(message)
        took = (session.traffic - before).up
        assert session.window - 8 < took + 1 <= session.window  # + 1: a delimiter in front


@essential
def test_entries_pulled_in_any_order_are_the_same(board: Board) -> None:
    board.configure(500, Dtype.F32)
    board.load(1, board.weights())
    board.train(1)
    whole = board.delta(1, 500)
    ranks = [*range(0, 500, 37), 499, 0, 499]
    random.Random(4).shuffle(ranks)
    for rank in ranks:
        chunk = board.session.request(Pull(1, rank))
        assert chunk.rank == rank and chunk.count >= 1
        alone = delta.decode([dataclasses.replace(chunk, rank=0)], n=board.n_global, k=chunk.count, token=1)
        np.testing.assert_array_equal(alone.indices, whole.indices[rank : rank + chunk.count])
        np.testing.assert_array_equal(alone.values, whole.values[rank : rank + chunk.count])


def test_an_invalid_pull_is_refused(board: Board) -> None:
    board.configure(20, Dtype.F32)
    board.load(3, board.weights())
    board.train(3)
    assert board.refusal(Pull(2, 0)) == (Status.BAD_TOKEN, 3)
    assert board.refusal(Pull(3, 20)) == (Status.BAD_OFFSET, 20)
    assert board.refusal(Pull(3, 0xFFFFFFFF)) == (Status.BAD_OFFSET, 20)


def test_an_adaptation_has_no_delta_whatever_is_configured_after_it(board: Board) -> None:
    board.configure()
    # An earlier round whose selection could be mistaken for this one's: smaller changes give a lower threshold.
    board.session.configure(Program.TRAIN, Recipe((dataclasses.replace(STEP, learning_rate=1e-6),), 20))
    board.load(1, board.weights())
    board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    board.session.await_done(1, STEP.count)
    board.load(2, board.weights(2))
    board.train(2, Program.ADAPT)
    assert board.refusal(Pull(2, 0))[0] == Status.BAD_STATE
    board.session.configure(Program.ADAPT, Recipe(board.strategy.adaptation(4), 20))
    assert board.refusal(Pull(2, 0))[0] == Status.BAD_STATE  # no delta was selected in this round


# --- A reset ---


@essential
def test_a_reset_in_mid_round_loses_the_round_and_nothing_else(board: Board) -> None:
    board.configure(500)
    board.load(1, board.weights())
    board.train(1)
    trained, pulled = board.fetch(), board.delta(1, 500)
    board.load(2, board.weights())
    board.session.train(2, Program.TRAIN, SEED, CLIENT, ROUND)
    assert board.device.process is not None
    board.device.process.kill()
    board.device.process.wait()
    board.device.rejoin(HUNG_SECONDS)
    assert board.session.hello() == board.device.hello
    assert board.refusal(Await(2, 0))[0] == board.refusal(Pull(2, 0))[0] == Status.BAD_STATE
    board.configure(500)
    board.load(1, board.weights())
    board.train(1)
    np.testing.assert_array_equal(board.fetch(), trained)
    np.testing.assert_array_equal(board.delta(1, 500).values, pulled.values)


# --- Fetch and Predict ---


def test_fetch_reads_any_part(board: Board) -> None:
    board.configure()
    board.load(1, board.weights())
    whole = board.fetch()
    np.testing.assert_array_equal(board.session.fetch(1117, 7), whole[1117:1124])
    beyond = board.session.request(Fetch(board.n - 2, 60))
    np.testing.assert_array_equal(np.frombuffer(beyond.data, "<f4"), whole[-2:])
    assert board.session.request(Fetch(0, 0)).data == b""
    assert board.refusal(Fetch(board.n, 1)) == (Status.BAD_OFFSET, board.n)


@essential
@both_models
def test_predictions_are_the_reference_networks_before_and_after_adaptation(board: Board, model: str) -> None:
    board.configure()
    board.load(1, board.weights())
    outputs = board.manifest.output_size
    if board.streamed:
        levels = board.images(12)
        inputs, ask = levels * np.float64(1 / 255), lambda: board.session.predict(levels, outputs, 1 / 255)
    else:
        points = np.linspace(-5, 5, 300, dtype=np.float32).reshape(-1, 1)  # more inputs than fit one message
        inputs, ask = points.astype(np.float64), lambda: board.session.predict(points, outputs)
    before = ask()
    np.testing.assert_allclose(before, board.forward(board.fetch(), inputs), rtol=1e-4, atol=1e-5)
    assert np.ptp(before) > 0
    assert board.train(1, Program.ADAPT).state == State.DONE
    after = ask()
    np.testing.assert_allclose(after, board.forward(board.fetch(), inputs), rtol=1e-4, atol=1e-5)
    assert (after != before).any()
    np.testing.assert_array_equal(ask(), after)


def test_an_invalid_predict_is_refused(board: Board) -> None:
    board.configure()
    assert board.refusal(Predict(Dtype.F32, 1.0, f32(1)))[0] == Status.BAD_STATE
    board.load(1, board.weights())
    assert board.refusal(Predict(Dtype.F32, 1.0, b""))[0] == Status.BAD_LENGTH
    assert board.refusal(Predict(Dtype.F32, 1.0, b"\0" * 5))[0] == Status.BAD_LENGTH
    assert board.refusal(Predict(Dtype.F32, 1.0, f32(1, float("nan"))))[0] == Status.NOT_FINITE
    assert board.refusal(Predict(Dtype.U8, float("inf"), b"\1"))[0] == Status.NOT_FINITE
    assert board.refusal(Predict(Dtype.I8, 1.0, b"\1"))[0] == Status.BAD_VALUE


# --- Streamed samples ---


@essential
@streamed
def test_a_sample_is_trained_once_and_in_order(board: Board, model: str) -> None:
    board.configure()
    session = board.session
    assert board.refusal(board.sample(1, 0))[0] == Status.BAD_STATE
    board.load(1, board.weights())
    assert board.refusal(board.sample(1, 0))[0] == Status.BAD_STATE  # training has not been started
    session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    assert board.refusal(board.sample(2, 0)) == (Status.BAD_TOKEN, 1)
    assert board.refusal(board.sample(1, 1)) == (Status.BAD_OFFSET, 0)
    assert session.request(board.sample(1, 0)).step == 1
    once = board.fetch()
    assert session.request(board.sample(1, 0)).step == 1
    np.testing.assert_array_equal(board.fetch(), once)
    assert board.refusal(board.sample(1, 5)) == (Status.BAD_OFFSET, 1)
    assert session.request(board.sample(1, 1)).step == 2
    assert (board.fetch() != once).any()
    for step in range(2, board.steps(Program.TRAIN)):
        progress = session.request(board.sample(1, step))
    assert progress.state == State.DONE
    done = board.fetch()
    assert board.refusal(board.sample(1, board.steps(Program.TRAIN))) == (Status.BAD_OFFSET, board.steps(Program.TRAIN))
    assert session.request(board.sample(1, 3)).state == State.DONE
    np.testing.assert_array_equal(board.fetch(), done)


@streamed
def test_a_bad_sample_is_refused_and_not_trained(board: Board, model: str) -> None:
    board.configure()
    board.load(1, board.weights())
    board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    before = board.fetch()
    good = board.sample(1, 0)
    pixels = good.data[4:]
    bad: list[tuple[dict[str, Any], Status]] = [
        ({"data": f32(float("nan")) + pixels}, Status.NOT_FINITE),
        ({"data": f32(3) + pixels}, Status.BAD_VALUE),  # the classes are 0, 1, 2
        ({"data": f32(-1) + pixels}, Status.BAD_VALUE),
        ({"data": f32(0.5) + pixels}, Status.BAD_VALUE),  # between two classes
        ({"data": f32(1e30) + pixels}, Status.BAD_VALUE),
        ({"scale": float("inf")}, Status.NOT_FINITE),
        ({"scale": float("nan")}, Status.NOT_FINITE),
        ({"scale": 3e38}, Status.NOT_FINITE),
        ({"dtype": Dtype.F16}, Status.BAD_VALUE),
        ({"data": good.data[:-1]}, Status.BAD_LENGTH),
        ({"data": good.data + b"\0"}, Status.BAD_LENGTH),
        ({"data": b""}, Status.BAD_LENGTH),
    ]
    for change, status in bad:
        assert board.refusal(dataclasses.replace(good, **change))[0] == status, change
    np.testing.assert_array_equal(board.fetch(), before)
    assert board.session.request(good).step == 1


def test_a_board_with_samples_of_its_own_takes_none(board: Board) -> None:
    board.configure()
    board.load(1, board.weights())
    board.session.train(1, Program.TRAIN, SEED, CLIENT, ROUND)
    sample = protocol.Sample(1, 0, Dtype.F32, 1.0, f32(0, 0))
    assert board.refusal(sample)[0] == Status.BAD_STATE


# --- Other bytes ---


@pytest.mark.parametrize("message", protocol.REQUESTS, ids=lambda message: message.__name__)
def test_a_message_of_the_wrong_length_is_refused(board: Board, message: type[protocol.Request]) -> None:
    board.configure()
    board.load(1, board.weights())
    size = message.fixed_size()
    lengths = [length for length in (0, 1, size - 1, *(() if message.has_tail() else (size + 1, size + 100))) if length != size]
    for length in lengths:
        if length >= 0:
            assert board.refusal(raw(message.type_id, b"\0" * length))[0] == Status.BAD_LENGTH


@pytest.mark.parametrize("type_id", [0, 0x0A, 0x7F, 0x80, 0x81, 0xFE, 0xFF])
def test_an_unknown_message_is_refused(board: Board, type_id: int) -> None:
    for payload in (b"", b"\0" * 50):
        assert board.refusal(raw(type_id, payload))[0] == Status.UNKNOWN_TYPE


@essential
@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0",
        b"boot: \xff\x13\0\x01",
        bytes(range(256)) * 20,  # longer than any frame, without a delimiter
        b"\xff" * 5000 + b"\0",
        b"\x02\x01\0",
        np.random.default_rng(0).bytes(3000),
    ],
    ids=["delimiters", "boot banner", "long", "long and ended", "short frame", "random"],
)
def test_garbage_between_messages_does_no_harm(board: Board, garbage: bytes) -> None:
    board.configure()
    board.load(1, board.weights())
    before = board.fetch()
    for _ in range(3):
        board.session._transport.write(garbage)  # below the session, as its calls send valid messages only
        np.testing.assert_array_equal(board.session.fetch(0, 40), before[:40])
    assert board.session.hello() == board.device.hello
    np.testing.assert_array_equal(board.fetch(), before)


LAST_ROUND = 0xFFFFFFFF  # the largest token, so that no random payload can begin a later round


@both_models
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_payload_changes_the_weights_or_stops_the_board(board: Board, model: str, data: st.DataObject) -> None:
    session = board.session
    if board.held is None:
        board.configure()
        board.load(LAST_ROUND, board.weights())
        board.train(LAST_ROUND)
        board.held = board.fetch()
    message = data.draw(st.sampled_from(protocol.REQUESTS))
    most = payload_capacity(session.window)
    size = data.draw(st.sampled_from([0, message.fixed_size(), message.fixed_size() + 4]) | st.integers(0, most))
    payload = data.draw(st.binary(min_size=size, max_size=size))
    try:
        session.request(raw(message.type_id, payload))
        accepted = True
    except (DeviceRefused, DeviceSilent):
        accepted = False
    assert session.hello() == board.device.hello
    if accepted and message is Configure and Configure.unpack(payload).session != session.session:
        board.forget()  # a valid message that began a new session, which is allowed
        return
    # All weights now and then only: an emulator takes long to send them.
    start, count = (0, board.n) if data.draw(st.integers(0, 9)) == 0 else (data.draw(st.integers(0, board.n - 100)), 100)
    np.testing.assert_array_equal(session.fetch(start, count), board.held[start : start + count])
