"""With any faults on the line and any order of requests, a device ends in the state of an undisturbed device."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import fuzzer
import in_process
import numpy as np
import numpy.typing as npt
import pytest
from clocks import HUNG_SECONDS
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from in_process import Device, Fault, Line

from tinymetafed.devices.link.deadline import Deadline
from tinymetafed.devices.link.link_errors import DeviceRefused, LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs import delta, downlink
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import protocol
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Dtype, Phase, Program, Recipe, SampleSet, State, Status, Variant

PHASES = (
    Phase(Variant.LOCAL, SampleSet.SUPPORT, 3, 2, 0.015625, 0.0),
    Phase(Variant.GLOBAL, SampleSet.QUERY, 4, 1, 0.015625, 1.0),
)
STEPS = 10
KEPT, REACHED = 3, 6  # after the first pass over the support set, a device that keeps samples trains the second by itself
SCALE = 2.0**-8
SEED, ROUND = 7, 5
TWIN_CHUNK = 5  # weights in one Load to the twin; a partial load ends at a multiple of it
EXAMPLES, STEPS_PER_EXAMPLE = 100, 40
DTYPES = st.sampled_from([Dtype.F32, Dtype.F16, Dtype.I8])
SEEDS = st.integers(0, 2**16)


@dataclass
class ExpectedState:
    """The state that the device should be in after the host's calls."""

    recipes: dict[int, tuple[int, Dtype]] = field(default_factory=dict)  # program -> entries of its delta, their Dtype
    token: int = 0
    state: State = State.IDLE
    segments: list[downlink.Segment] = field(default_factory=list)  # the round's weights
    program: Program = Program.TRAIN
    step: int = 0
    selected: int = 0  # number of entries of the last frozen delta

    @property
    def entries(self) -> int:
        return self.selected if self.state == State.DONE else 0


class Federation(RuleBasedStateMachine):
    """A session over a bad line, and a twin: an equal device that receives each request once over a good line."""

    model: ClassVar[str]
    library: ClassVar[Path]
    manifest: ClassVar[ModelManifest]
    faults: ClassVar[int] = 0  # number in all examples
    rounds: ClassVar[int] = 0  # number trained to the end, in all examples

    def __init__(self) -> None:
        super().__init__()
        self.device, self.twin = Device(self.library), Device(self.library)
        self.line = Line(self.device)
        self.session = Session(self.line, deadline=0.05, retries=10, clock=self.line.clock)
        self.session.window = fuzzer.PLAIN[self.model]
        self.expected = ExpectedState()
        self.n_global, self.n = int(self.manifest.n_global), int(self.manifest.n_parameters)
        self.streamed = self.model == "streamed"
        self.downlink = Dtype[self.manifest.downlink]

    def teardown(self) -> None:
        self.line.faults = ()
        if self.expected.state >= State.LOADED:
            self.weights_are_the_twins()
        type(self).faults += self.line.happened
        self.device.close()
        self.twin.close()

    # --- The line ---

    @initialize(session=SEEDS, seed=SEEDS)
    def begin(self, session: int, seed: int) -> None:
        self.session.session = session
        self.disturb(set(Fault), 0.1, seed)
        self.configure(Program.TRAIN, self.n_global // 2, Dtype.F32)

    @rule(faults=st.sets(st.sampled_from(list(Fault)), min_size=1), rate=st.sampled_from([0.02, 0.1, 0.4]), seed=SEEDS)
    def disturb(self, faults: set[Fault], rate: float, seed: int) -> None:
        self.line.faults, self.line.rate = tuple(sorted(faults, key=lambda fault: fault.value)), rate
        self.line.seed(seed)

    @rule()
    def greet(self) -> None:
        hello = self.session.hello(HUNG_SECONDS)  # by the line's clock
        assert hello.model_hash.hex() == self.manifest.model_hash
        assert self.session.window == fuzzer.PLAIN[self.model]

    # --- A round ---

    @rule(program=st.sampled_from(Program), k=st.sampled_from([0, 1, 40, 60]), uplink=DTYPES)
    def configure(self, program: Program, k: int, uplink: Dtype) -> None:
        expected, recipe = self.expected, Recipe(PHASES, k, uplink)
        if expected.state == State.TRAINING and expected.recipes.get(program) != (k, uplink):
            with pytest.raises(DeviceRefused, match="BAD_STATE"):
                self.session.configure(program, recipe)
            return
        self.session.configure(program, recipe)
        self.twin.ask(protocol.Configure(self.session.session, program, recipe))
        expected.recipes[program] = (k, uplink)

    @rule(session=SEEDS)
    def another_session(self, session: int) -> None:
        if session != self.session.session:
            self.session.session = session
            self.expected = ExpectedState()
        self.configure(Program.TRAIN, 40, Dtype.F32)

    @rule(seed=SEEDS, share=st.sampled_from([1.0, 1.0, 0.4]))
    def load(self, seed: int, share: float) -> None:
        expected = self.expected
        weights = np.random.default_rng(seed).normal(0, 0.2, self.n_global).astype(np.float32)
        expected.segments = self.encoded(weights)
        expected.token, expected.state, expected.step = self.session.next_token(), State.LOADING, 0
        if share < 1:
            first = expected.segments[0]
            width = self.downlink.width
            count = int(share * len(first.data)) // width // TWIN_CHUNK * TWIN_CHUNK
            part = first.data[: max(count, TWIN_CHUNK) * width]
            self.load_segments([downlink.Segment(0, self.downlink, first.scale, part)])
        else:
            self.load_the_rest()

    def encoded(self, weights: npt.NDArray[np.float32]) -> list[downlink.Segment]:
        sizes = [tensor.size for tensor in self.manifest.global_tensors]
        return downlink.encode(weights, self.downlink, sizes)

    @precondition(lambda self: self.expected.state >= State.LOADING)
    @rule()
    def load_the_rest(self) -> None:
        self.load_segments(self.expected.segments)  # loads again if they are complete already
        self.expected.state = max(self.expected.state, State.LOADED)

    def load_segments(self, segments: list[downlink.Segment]) -> None:
        token = self.expected.token
        self.session.load(token, segments)
        for segment in segments:
            width = segment.dtype.width
            for at in range(0, len(segment.data), TWIN_CHUNK * width):
                data = segment.data[at : at + TWIN_CHUNK * width]
                self.twin.ask(protocol.Load(token, segment.offset + at // width, segment.dtype, segment.scale, data))

    @precondition(lambda self: self.expected.state == State.LOADED)
    @rule(client=SEEDS, program=st.sampled_from(Program))
    def train(self, client: int, program: Program) -> None:
        expected = self.expected
        if program not in expected.recipes:
            with pytest.raises(DeviceRefused, match="BAD_STATE"):
                self.session.train(expected.token, program, SEED, client, ROUND)
            return
        self.session.train(expected.token, program, SEED, client, ROUND)
        self.twin.ask(protocol.Train(expected.token, program, SEED, client, ROUND))
        expected.program, expected.state = program, State.TRAINING
        if not self.streamed:
            assert self.session.await_done(expected.token, STEPS).step == STEPS
            self.done(STEPS)

    @rule(seed=SEEDS, client=SEEDS, ends=st.booleans())
    def begin_a_round(self, seed: int, client: int, ends: bool) -> None:
        self.load(seed, 1.0)
        self.train(client, Program.TRAIN)
        if ends and self.streamed and self.expected.state == State.TRAINING:
            self.stream(STEPS, False)

    def done(self, step: int) -> None:
        expected = self.expected
        expected.step = step
        if step == STEPS:
            type(self).rounds += 1
            expected.state = State.DONE
            expected.selected = expected.recipes[expected.program][0]

    @precondition(lambda self: self.expected.state >= State.TRAINING)
    @rule(client=SEEDS)
    def train_again(self, client: int) -> None:
        progress = self.session.train(self.expected.token, self.expected.program, SEED, client, ROUND)
        assert (progress.step, progress.state) == (self.expected.step, self.expected.state)

    @precondition(lambda self: self.streamed and self.expected.state == State.TRAINING)
    @rule(count=st.sampled_from([1, 4, STEPS]), from_the_start=st.booleans())
    def stream(self, count: int, from_the_start: bool) -> None:
        expected = self.expected
        end = min(STEPS, expected.step + count)
        reached = REACHED if KEPT <= end < REACHED else end
        start = 0 if from_the_start else expected.step
        token, examples = expected.token, (self.example(step) for step in range(start, end))
        progress = self.session.stream(token, examples, start=start, reaches=reached)
        progress = self.session.await_step(token, reached, progress, STEPS, Deadline(STEPS, self.line.clock.monotonic()))
        assert progress.step == reached
        for step in range(expected.step, reached):  # the twin is sent every pass
            example = self.example(step)
            data = example.targets.tobytes() + example.inputs.tobytes()
            self.twin.ask(protocol.Sample(expected.token, step, Dtype.U8, SCALE, data))
        self.done(reached)

    def example(self, step: int) -> Example:
        place = step % KEPT if step < REACHED else step
        inputs = np.random.default_rng(place + 100 * self.expected.token).integers(0, 256, self.manifest.input_shape, np.uint8)
        return Example(np.array([place % 3], np.float32), inputs, SCALE)

    # --- Results ---

    @precondition(lambda self: self.expected.entries > 0)
    @rule()
    def pull(self) -> None:
        k, token = self.expected.entries, self.expected.token
        found = delta.decode(self.session.pull(token, k), n=self.n_global, k=k, token=token)
        chunks: list[protocol.Delta] = []
        while (rank := sum(chunk.count for chunk in chunks)) < k:
            chunks.append(protocol.Delta.unpack(self.twin.ask(protocol.Pull(token, rank)).payload))
        expected = delta.decode(chunks, n=self.n_global, k=k, token=token)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.values.view(np.uint32), expected.values.view(np.uint32))

    @precondition(lambda self: self.expected.state >= State.LOADED)
    @rule()
    def weights_are_the_twins(self) -> None:
        expected: list[bytes] = []
        for at in range(0, self.n, 40):
            expected.append(protocol.Weights.unpack(self.twin.ask(protocol.Fetch(at, 40)).payload).data)
        assert self.session.fetch(0, self.n).tobytes() == b"".join(expected)
        assert self.streamed or self.device.steps == self.twin.steps

    @precondition(lambda self: self.expected.state >= State.LOADED)
    @rule(count=st.integers(1, 8))
    def predictions_are_the_twins(self, count: int) -> None:
        inputs = np.random.default_rng(count).integers(0, 256, (count, *self.manifest.input_shape), np.uint8)
        expected = [self.twin.ask(protocol.Predict(Dtype.U8, SCALE, one.tobytes())).payload for one in inputs]
        assert self.session.predict(inputs, self.manifest.output_size, SCALE).tobytes() == b"".join(expected)

    # --- Requests that must be refused ---

    @precondition(lambda self: self.expected.token > 1 and self.expected.state >= State.LOADING)
    @rule()
    def a_load_of_an_earlier_round_is_refused(self) -> None:
        late = protocol.Load(self.expected.token - 1, 0, self.downlink, 0.0, bytes(8))
        with pytest.raises(DeviceRefused) as refused:
            self.session.request(late)
        assert (refused.value.status, refused.value.detail) == (Status.BAD_TOKEN, self.expected.token)

    @precondition(lambda self: self.expected.state in (State.LOADING, State.DONE))
    @rule(asks=st.sampled_from(["load", "train", "await", "stream", "pull", "fetch", "predict"]))
    def reset(self, asks: str) -> None:
        """After a reset, requests that need the forgotten state are refused."""
        session, token = self.session, self.expected.token
        calls: dict[str, Callable[[], Any]] = {
            "load": lambda: session.load(session.next_token(), self.encoded(np.zeros(self.n_global, np.float32))),
            "train": lambda: session.train(token, Program.TRAIN, SEED, 1, ROUND),
            "await": lambda: session.await_done(token, STEPS),
            "stream": lambda: session.stream(token, [self.example(0)]),
            "pull": lambda: session.pull(token, 1),
            "fetch": lambda: session.fetch(0, 1),
            "predict": lambda: session.predict(np.zeros((1, *self.manifest.input_shape), np.uint8), 1),
        }
        for device in (self.device, self.twin):
            device.reset()
            device.steps = 0
        with pytest.raises(LinkError):
            calls[asks]()
        self.expected = ExpectedState()
        self.configure(Program.TRAIN, 40, Dtype.F32)


@pytest.mark.parametrize("model", list(fuzzer.PLAIN))
def test_a_session_over_a_bad_line_ends_like_one_over_a_good_line(model: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(model)
    library = in_process.build(model, folder)
    manifest = ModelManifest.of_json(json.loads((folder / "manifest.json").read_text()), model)
    machine: type[Federation] = type(
        f"Federation_{model}", (Federation,), {"model": model, "library": library, "manifest": manifest}
    )
    relaxed = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS_PER_EXAMPLE,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=relaxed)
    assert machine.faults > 300 and machine.rounds > 3
