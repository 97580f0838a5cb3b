"""A session with one board: faults of the line are survived or reported, nothing is trained twice, all bytes are counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from clocks import SlowClock
from fake_device import MODEL_HASH, Connect, FakeDevice, Fault, boot_banner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import manifest, sine

from tinymetafed.devices.link.link_errors import (
    DeviceGarbled,
    DeviceRefused,
    DeviceSilent,
    PortError,
    SampleTooLarge,
    WrongFirmware,
)
from tinymetafed.devices.link.questions import board_name
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.federation.clients import Traffic, TrainingFailed
from tinymetafed.wire.frame import encode
from tinymetafed.wire.messages import Example, load_chunk, predict_batch, tail_capacity
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import (
    Dtype,
    Program,
    Recipe,
    SampleSet,
    Selection,
    Status,
    Variant,
    payload_capacity,
    wire_size,
)

FLASH = "pio run -e native"
MANIFEST = replace(manifest(sine()), model_hash=MODEL_HASH.hex())
NASTY = [
    Fault.DROP,
    Fault.LOSE_ANSWER,
    Fault.DAMAGE,
    Fault.CUT,
    Fault.DUPLICATE,
    Fault.STALE,
    Fault.GARBAGE,
    Fault.NONE,
]


@dataclass(frozen=True)
class Part:
    """A segment of weights."""

    offset: int
    dtype: int
    scale: float
    data: bytes


def part(offset: int, values: Any, dtype: str = "<f4") -> Part:
    wire = {"<f4": Dtype.F32, "<f2": Dtype.F16, "i1": Dtype.I8}[dtype]
    return Part(offset, wire, 0.5 if wire == Dtype.I8 else 0.0, np.asarray(values).astype(dtype).tobytes())


def example(step: int, size: int = 4) -> Example:
    return Example(np.array([step], np.float32), np.full(size, step % 251, np.uint8), 1 / 255)


# --- Message sizes ---


@given(st.integers(min_value=0, max_value=70_000), st.sampled_from([b"\0", b"\1"]))
def test_wire_size_is_never_exceeded(size: int, byte: bytes) -> None:
    assert 1 + len(encode(1, 2, byte * size)) <= wire_size(size)


@given(st.integers(min_value=20, max_value=70_000))
def test_payload_capacity_is_the_largest_that_fits(window: int) -> None:
    capacity = payload_capacity(window)
    assert wire_size(capacity) <= window < wire_size(capacity + 1)


@given(
    st.integers(min_value=protocol.MIN_RECEIVE_WINDOW, max_value=9000),
    st.lists(
        st.tuples(st.sampled_from(protocol.WEIGHT_DTYPES), st.integers(min_value=1, max_value=3000)),
        min_size=1,
        max_size=4,
    ),
)
def test_load_chunks_fit_and_cover_everything_once(window: int, shapes: list[tuple[Dtype, int]]) -> None:
    parts, offset = [], 0
    for dtype, count in shapes:
        parts.append(Part(offset, dtype, 1.0, bytes((offset + i) % 256 for i in range(count * dtype.width))))
        offset += count
    position, received = 0, dict.fromkeys(range(len(parts)), b"")
    while position < offset:
        message, after = load_chunk(parts, 3, position, window)
        index = max(i for i, p in enumerate(parts) if p.offset <= position)
        assert wire_size(len(message.pack())) <= window
        assert (message.token, message.offset, message.dtype) == (3, position, parts[index].dtype)
        assert after - position == len(message.data) // message.dtype.width > 0
        received[index] += message.data
        position = after
    assert [received[i] for i in range(len(parts))] == [p.data for p in parts]


@given(st.integers(1, 4000), st.integers(1, 400), st.integers(256, 9000))
def test_predict_batches_fit_both_ways(input_bytes: int, outputs: int, window: int) -> None:
    batch = predict_batch(input_bytes, outputs, window)

    def fits(count: int) -> bool:
        question = wire_size(protocol.Predict.fixed_size() + count * input_bytes)
        return max(question, wire_size(count * outputs * 4)) <= window

    assert (batch == 0 or fits(batch)) and not fits(batch + 1)


# --- One request ---


@pytest.mark.parametrize("tcp", [False, True])
def test_hello_on_a_real_line(tcp: bool) -> None:
    device = FakeDevice(tcp=tcp, window=700)
    try:
        with Session(open_transport(device.url), clock=SlowClock()) as session:
            hello = session.hello()
            assert hello == replace(device.identity, board=hello.board)
            assert board_name(hello) == "native"
            assert session.window == 700
            session.check(hello, MANIFEST, FLASH)
            assert session.fetch(0, 3).tolist() == [0, 0, 0]
    finally:
        device.close()


def test_hello_through_a_boot_banner_and_lost_frames(connect: Connect) -> None:
    banner = boot_banner(np.random.default_rng(1), 700)
    _, session = connect(banner=banner, faults=[Fault.DROP] * 3 + [Fault.GARBAGE_ONLY, Fault.DAMAGE], greet=False)
    assert board_name(session.hello()) == "native"


@pytest.mark.parametrize("fault", [f for f in NASTY if f != Fault.NONE])
def test_one_request_survives_a_fault(connect: Connect, fault: Fault) -> None:
    device, session = connect(faults=[fault])
    session.train(1, Program.TRAIN, 7, 8, 9)
    assert session.fetch(0, 3).tolist() == [0, 0, 0]
    # A cut answer has lost its 0x00, so the next answer is lost with it.
    lost = {Fault.DROP: 1, Fault.LOSE_ANSWER: 1, Fault.DAMAGE: 1, Fault.CUT: 2}.get(fault, 0)
    assert session.traffic.retries == lost
    if lost:  # the very same frame again
        assert device.requests[0] == device.requests[1]


def test_silence_is_named(connect: Connect) -> None:
    device, session = connect(silent=True, deadline=0.01, retries=2)
    with pytest.raises(DeviceSilent, match=rf"^{device.url}: no answer to Fetch in .* and 2 retries"):
        session.fetch(0, 1)
    assert len(device.requests) == 3


def test_garbage_is_named_and_shown(connect: Connect) -> None:
    device, session = connect(faults=[Fault.GARBAGE_ONLY] * 99, deadline=0.02, retries=1)
    with pytest.raises(DeviceGarbled, match=rf"{device.url}: no valid answer to Fetch.*U\\xaaU"):
        session.fetch(0, 1)


def test_the_deadline_ends_a_request_in_endless_noise(connect: Connect) -> None:
    _, session = connect(noise=b"\x55" * 50, silent=True, greet=False)
    began = session.clock.monotonic()
    with pytest.raises(DeviceGarbled, match="Hello"):
        session.hello(start=0.3)
    assert 0.3 <= session.clock.monotonic() - began < 0.31


def test_refusal_is_readable(connect: Connect) -> None:
    device, session = connect()
    with pytest.raises(
        DeviceRefused, match=rf"^{device.url}: refused Await \(BAD_TOKEN\): another cycle is in progress, its token is 0"
    ) as caught:
        session.request(protocol.Await(5, 0))
    assert (caught.value.status, caught.value.detail, caught.value.message) == (Status.BAD_TOKEN, 0, protocol.Await)


@pytest.mark.parametrize("status", [status for status in Status if status])
def test_every_status_has_a_message(status: Status) -> None:
    assert f"({status.name})" in str(DeviceRefused("/dev/x", protocol.Load, status, 5))


@pytest.mark.parametrize("status", [0, 10, 77, 255])
def test_a_refusal_of_no_known_status_names_it(connect: Connect, status: int) -> None:
    device, session = connect()
    device._answer = lambda frame: protocol.ErrorAnswer(status, 5)  # type: ignore[method-assign, arg-type]
    words = rf"^{device.url}: answered Fetch with an unexpected message: ErrorAnswer\.status = {status}: expected one of"
    with pytest.raises(DeviceGarbled, match=words):
        session.fetch(0, 1)


def test_a_line_that_closes_is_a_port_error(connect: Connect) -> None:
    device, session = connect(faults=[Fault.NONE, Fault.VANISH])
    session.fetch(0, 1)
    with pytest.raises(PortError, match=f"{device.url}: the line went away"):
        session.fetch(0, 1)


def test_sequence_numbers_wrap(connect: Connect) -> None:
    _, session = connect()
    for _ in range(300):
        session.fetch(0, 1)
    assert session.traffic.retries == 0


# --- Firmware checks ---


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("schema_hash", b"\xaa" * 8, ["aaaaaaaaaaaaaaaa", protocol.schema_hash().hex()]),
        ("protocol_version", 9, ["protocol 9", f"protocol {protocol.PROTOCOL_VERSION}"]),
        ("model_hash", b"\xbb" * 8, ["bbbbbbbbbbbbbbbb", MODEL_HASH.hex()]),
        ("board", b"esp32", ["esp32", "built for native"]),
    ],
)
def test_wrong_firmware_shows_both_sides(connect: Connect, field: str, value: Any, words: list[str]) -> None:
    device, session = connect(greet=False, **{field: value})
    with pytest.raises(WrongFirmware) as caught:
        session.check(session.hello(), MANIFEST, FLASH)
    for word in [device.url, "pio run -e", *words]:
        assert word in str(caught.value)


def test_hello_of_another_length_is_another_protocol(connect: Connect) -> None:
    device, session = connect(greet=False)

    class OtherHello:
        def encode(self) -> bytes:
            return b"\x63\0" + b"\xcc" * 8 + b"what a later protocol says"

    device.identity = OtherHello()
    with pytest.raises(WrongFirmware, match="protocol 99, schema cccccccccccccccc"):
        session.hello()


# --- A round ---


def test_a_recipe_arrives_as_it_is(connect: Connect) -> None:
    device, session = connect()
    phase = protocol.Phase(Variant.LOCAL, SampleSet.QUERY, 32, 1, np.float32(0.01).item(), 0.0)
    short = Recipe((phase,), 25, Dtype.F16, Selection.RANDOM)
    full = Recipe((phase,) * protocol.MAX_PHASES)
    session.configure(Program.TRAIN, short)
    session.configure(Program.ADAPT, full)
    assert [(each.session, each.program, each.recipe) for each in device.configured] == [
        (session.session, Program.TRAIN, short),
        (session.session, Program.ADAPT, full),
    ]
    with pytest.raises(protocol.WireError, match=r"Configure\.recipe\.phases: 5 entries, expected at most 4"):
        session.configure(Program.TRAIN, Recipe((phase,) * 5))


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "i1"])
def test_load_writes_all_kinds(connect: Connect, dtype: str) -> None:
    first, second = part(0, np.arange(300) % 100, dtype), part(300, np.arange(400) % 100, dtype)
    device, session = connect(weights=700, downlink=first.dtype)
    session.load(1, [first, second])
    expected = np.concatenate([np.arange(300) % 100, np.arange(400) % 100]) * (0.5 if dtype == "i1" else 1)
    assert np.array_equal(device.weights, expected.astype(np.float32))
    assert session.traffic.retries == 0 and device.most_pending <= device.window


def test_load_refuses_bad_segments(connect: Connect) -> None:
    device, session = connect()
    with pytest.raises(ValueError, match="starts at 4, expected 3"):
        session.load(1, [part(0, [1, 2, 3]), part(4, [1])])
    with pytest.raises(ValueError, match="from 2 on hold NaN"):
        session.load(1, [part(0, [1, 2]), part(2, [np.nan])])
    assert device.requests == []


relaxed = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
faults = st.lists(st.sampled_from(NASTY), max_size=25)


@relaxed
@given(faults=faults, window=st.sampled_from([256, 4096]))
def test_load_survives_any_faults(connect: Connect, faults: list[Fault], window: int) -> None:
    values = np.random.default_rng(1).normal(size=900).astype(np.float32)
    device, session = connect(weights=900, window=window, faults=faults, deadline=0.02, retries=30)
    session.load(1, [part(0, values)])
    session.load(2, [part(0, 2 * values)])
    assert np.array_equal(device.weights, 2 * values)


@relaxed
@given(faults=faults, window=st.sampled_from([256, 1024]))
def test_stream_trains_every_step_once(connect: Connect, faults: list[Fault], window: int) -> None:
    device, session = connect(window=window, faults=faults, deadline=0.02, retries=30)
    progress = session.stream(4, (example(step) for step in range(40)))
    assert progress.step == 40
    assert [sample.step for sample in device.trained] == list(range(40))
    assert all(sample.data[:4] == np.float32(sample.step).tobytes() for sample in device.trained)


def test_stream_keeps_several_samples_under_way(connect: Connect) -> None:
    device, session = connect(window=256, thinking=0.002)
    steps = [0]
    session.stream(1, (example(step) for step in range(60)), on_progress=lambda progress: steps.append(progress.step))
    assert device.most_pending > 60 and device.most_pending <= 256
    assert steps == list(range(61))
    assert session.traffic.retries == 0


def test_stream_resumes_where_the_device_is(connect: Connect) -> None:
    device, session = connect()
    session.stream(1, (example(step) for step in range(30)))
    told = len(device.requests)
    session.stream(1, (example(step) for step in range(40)))
    assert [sample.step for sample in device.trained] == list(range(40))
    assert len(device.requests) - told < 30  # fewer than all thirty samples again
    assert session.stream(1, []).step == 40


def test_sample_is_acknowledged_and_not_trained_twice(connect: Connect) -> None:
    device, session = connect()
    for _ in range(2):
        progress = session.sample(1, 0, np.array([1.0]), np.ones((2, 2), np.float32))
        assert progress.step == 1
    (trained,) = device.trained
    assert trained.dtype == Dtype.F32 and len(trained.data) == 4 + 16


def test_nan_never_leaves_the_host(connect: Connect) -> None:
    device, session = connect()
    good, bad = np.zeros(2, np.float32), np.array([1, np.nan], np.float32)
    with pytest.raises(ValueError, match="sample 2: its input is NaN"):
        session.stream(1, [Example(good, good), Example(good, good), Example(good, bad)])
    assert all(b"\xc0\x7f" not in frame.payload for frame in device.requests)
    with pytest.raises(ValueError, match="its target"):
        session.sample(1, 0, bad, good)
    with pytest.raises(ValueError, match="its scale"):
        session.sample(1, 0, good, good, scale=float("inf"))
    with pytest.raises(ValueError, match="sample 1: its input"):
        session.predict(np.array([good, bad]), 2)
    with pytest.raises(ValueError, match="float64"):
        session.predict(np.zeros((1, 4)), 2)


def test_sample_too_large_for_the_window(connect: Connect) -> None:
    _, session = connect(window=256)
    most = tail_capacity(protocol.Sample, 256) - 4
    session.sample(1, 0, np.zeros(1), np.zeros(most, np.uint8))
    with pytest.raises(SampleTooLarge, match=f"sample 1 takes {most + 5} bytes, .* window of 256"):
        session.sample(1, 1, np.zeros(1), np.zeros(most + 1, np.uint8))
    with pytest.raises(SampleTooLarge, match="window of 256"):
        session.predict(np.zeros((1, 300), np.uint8), 2)


def test_failed_training_says_why(connect: Connect) -> None:
    device, session = connect(fails_at=3, steps=100, pace=100)
    with pytest.raises(TrainingFailed, match=f"{device.url}: training failed at step 3: NOT_FINITE") as caught:
        session.stream(1, (example(step) for step in range(10)))
    assert caught.value.status == Status.NOT_FINITE


def test_await_done_of_a_short_training_is_one_message(connect: Connect) -> None:
    device, session = connect(steps=50, pace=1000)
    session.train(6, Program.TRAIN, 1, 2, 3)
    assert session.await_done(6, 50).step == 50
    assert [frame.type_id for frame in device.requests] == [protocol.Train.type_id, protocol.Await.type_id]


def test_await_done_reports_now_and_then(connect: Connect) -> None:
    device, session = connect(steps=250, pace=100)
    session.train(6, Program.TRAIN, 1, 2, 3)
    seen: list[int] = []
    assert session.await_done(6, 250, lambda progress: seen.append(progress.step)).step == 250
    assert seen == sorted(seen) and 3 <= len(seen) <= 12
    assert len(device.requests) < 20
    assert session.traffic.retries == 0


def test_await_done_survives_faults(connect: Connect) -> None:
    _, session = connect(steps=20, pace=100, faults=[Fault.LOSE_ANSWER, Fault.DROP, Fault.DROP])
    session.train(6, Program.TRAIN, 1, 2, 3)
    assert session.await_done(6, 20).step == 20


def test_await_done_notices_failure_and_reset(connect: Connect) -> None:
    _, session = connect(steps=50, pace=500, fails_at=10)
    session.train(6, Program.TRAIN, 1, 2, 3)
    with pytest.raises(TrainingFailed, match="training failed at step 10: NOT_FINITE"):
        session.await_done(6, 50)
    _, other = connect()
    with pytest.raises(TrainingFailed, match="stands at IDLE, expected"):
        other.await_done(0, 50)


def test_pull_collects_all_ranks(connect: Connect) -> None:
    _, session = connect(weights=30, faults=NASTY)
    chunks = session.pull(2, 30)
    assert [(chunk.rank, chunk.count) for chunk in chunks] == [(0, 7), (7, 7), (14, 7), (21, 7), (28, 2)]
    assert session.pull(2, 0) == []
    with pytest.raises(DeviceGarbled, match="from 28 of 29"):
        session.pull(2, 29)


def test_pull_coded_collects_all_ranks(connect: Connect) -> None:
    _, session = connect(weights=30, faults=NASTY)
    assert [(chunk.rank, chunk.count) for chunk in session.pull_coded(2, 30)] == [(0, 7), (7, 7), (14, 7), (21, 7), (28, 2)]
    assert session.pull_coded(2, 0) == []
    with pytest.raises(DeviceGarbled, match="from 28 of 29"):
        session.pull_coded(2, 29)


def test_fetch_reads_in_pieces(connect: Connect) -> None:
    device, session = connect(weights=500, faults=NASTY)
    device.weights[:] = np.arange(500)
    assert np.array_equal(session.fetch(10, 480), np.arange(10, 490, dtype=np.float32))
    with pytest.raises(DeviceGarbled, match="from 500, got 0 bytes"):
        session.fetch(490, 20)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_predict_in_batches(connect: Connect, kind: type) -> None:
    device, session = connect(faults=NASTY)
    inputs = np.arange(400).reshape(100, 2, 2).astype(kind)
    sums = inputs.astype(np.float32).reshape(100, -1).sum(axis=1) * np.float32(0.5)
    outputs = session.predict(inputs, 2, scale=0.5)
    assert np.array_equal(outputs, np.stack([sums, 2 * sums], axis=1))
    assert device.most_pending <= device.window
    assert session.predict(inputs[:0], 2).shape == (0, 2)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8, np.int32, np.bool_])
def test_samples_of_types_that_no_device_takes_are_refused_before_anything_is_sent(connect: Connect, kind: type) -> None:
    device, session = connect()
    received = device.received
    with pytest.raises(ValueError, match=rf"inputs of type {kind.__name__.rstrip('_')}: a device takes float32 or uint8"):
        session.predict(np.zeros((1, 4), kind), 2)
    with pytest.raises(ValueError, match="a device takes float32 or uint8"):
        session.sample(1, 0, np.zeros(1), np.zeros(4, kind))
    assert device.received == received


def test_an_answer_of_the_wrong_size_is_refused(connect: Connect) -> None:
    _, session = connect()
    with pytest.raises(DeviceGarbled, match="1 predictions of 3 outputs, got 8 bytes"):
        session.predict(np.zeros((1, 4), np.float32), 3)


# --- Traffic ---


def test_every_byte_is_counted(connect: Connect) -> None:
    device, session = connect(faults=[Fault.NONE, *[Fault.DAMAGE] * 3, Fault.GARBAGE, Fault.CUT, Fault.DUPLICATE], greet=False)
    session.hello()
    session.load(1, [part(0, np.ones(100))])
    before = session.traffic
    session.stream(1, (example(step) for step in range(10)))
    session.predict(np.zeros((9, 4), np.float32), 2)
    of_samples = session.traffic - before
    session.fetch(0, 100)
    total = session.traffic
    assert (total.down, total.up) == (device.received, device.sent)
    assert (of_samples.down, of_samples.up) == (of_samples.samples_down, of_samples.samples_up)
    assert (total.samples_down, total.samples_up) == (of_samples.down, of_samples.up)
    assert total.retries >= 2 and session.damaged >= 1
    assert before + of_samples + (total - before - of_samples) == total
    assert Traffic() + total == total
