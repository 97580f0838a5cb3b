"""Boards for tests: native process, native under sanitizers, emulators; with models for every dtype of the downlink."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import int8_reference
import numpy as np
import numpy.typing as npt
import pytest
from clocks import HUNG_SECONDS
from compiled_model import CHECKS_ARE_CALLS
from reference import run
from small_runs import Quiet, sine

from tinymetafed.devices import client_program
from tinymetafed.devices.device_urls import DeviceUrlError, parse
from tinymetafed.devices.launch import Device, launch
from tinymetafed.devices.link.link_errors import DeviceRefused
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.running import running
from tinymetafed.learn.codecs import coded_delta, delta, downlink
from tinymetafed.learn.strategies import Strategy, open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import emit, graph, protocol, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Dtype, Program, Recipe, Selection, Status
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.toolchain import compiler_flags

Floats = npt.NDArray[np.float32]

# One line per kind of device. Every scenario runs on the quick kinds, the essential scenarios on all kinds that this
# machine can run.
QUICK = ["native:1", "sanitized", "qemu:1"]
ALL = [*QUICK, "qemu:1@rv32", "qemu:1@esp32isa", "renode:1"]

# Samples streamed by the host: drawings of three classes, and a network small enough to compare with NumPy.
STREAMED = spec.parse(
    {
        "task": {"kind": "omniglot", "ways": 3, "support": 2, "query": 2, "adapt": 3},
        "model": {
            "input": [28, 28, 1],
            "loss": "softmax_cross_entropy",
            "layers": [
                {"op": "conv2d", "filters": 5, "kernel": 3, "stride": 3, "activation": "relu"},
                {"op": "conv2d", "filters": 9, "kernel": 3, "stride": 2, "padding": "valid", "activation": "relu"},
                {"op": "flatten"},
                {"op": "dense", "units": 3, "local": True},
            ],
        },
        "strategy": {"downlink": "i8"},
    },
    "streamed",
)
# A firmware takes weights in the dtype of its experiment only, so there is one model per dtype.
MODELS: dict[str, Experiment] = {
    "sine": sine("strategy.downlink=f32"),
    "sine-f16": sine("strategy.downlink=f16"),
    "streamed": STREAMED,
}
# The constants of the frozen layers of EVERY_OP, which int8_reference chooses.
FROZEN = Path(tempfile.mkdtemp(prefix="tinymetafed-frozen-")) / "frozen.npz"
atexit.register(shutil.rmtree, FROZEN.parent, ignore_errors=True)
# Every kind of layer and every option of the optimizer, to compare bits; the values of its updates are coded.
EVERY_OP = spec.parse(
    {
        "task": {"kind": "omniglot", "ways": 3, "support": 2, "query": 2, "adapt": 3},
        "model": {
            "input": [28, 28, 1],
            "loss": "softmax_cross_entropy",
            "local_start": "redrawn",
            "momentum": 0.5,
            "weight_decay": 0.001,
            "clip_norm": 1.0,
            "activations": "f16",
            "weights": str(FROZEN),
            "layers": [
                {"op": "quantize", "scale": 1 / 255, "zero_point": -128},
                {
                    "op": "conv2d_int8",
                    "name": "bytes",
                    "filters": 6,
                    "kernel": 3,
                    "stride": 2,
                    "zero_point": -90,
                    "range": [-90, 127],
                },
                {"op": "depthwise_conv2d_int8", "kernel": 3, "zero_point": 9},
                {
                    "op": "add_int8",
                    "with": "bytes",
                    "zero_point": -17,
                    "factors": [[1073741824, 0], [1623821475, -2], [1098017566, -17]],
                },
                {"op": "max_pool_int8", "size": 2},
                {"op": "requantize", "factor": [1500000000, 1], "zero_point": -100},
                {"op": "flatten"},
                {"op": "dense_int8", "units": 64, "zero_point": 2},
                {"op": "dequantize", "scale": 0.02},
                {"op": "reshape", "shape": [8, 8, 1]},
                # Above the first of these, activations are packed and computed again.
                {"op": "conv2d", "filters": 8, "kernel": 1, "activation": "relu"},
                {"op": "conv2d", "filters": 8, "kernel": 3, "activation": "relu"},
                {"op": "depthwise_conv2d", "kernel": 3, "activation": "relu"},
                {"op": "depthwise_conv2d", "kernel": 3},
                {"op": "avg_pool", "size": 2},
                {"op": "conv2d", "filters": 5, "kernel": 3, "stride": 2, "activation": "relu"},
                {"op": "depthwise_conv2d", "kernel": 3, "name": "fork", "activation": "relu6"},
                {"op": "separable_conv2d", "filters": 5, "kernel": 3, "activation": "tanh"},
                {"op": "add", "with": "fork"},
                {"op": "max_pool", "size": 2},
                {"op": "conv2d", "filters": 6, "kernel": 2},
                {"op": "leaky_relu", "slope": 0.1},
                {"op": "prelu"},
                {"op": "conv2d", "filters": 9, "kernel": 1, "activation": "relu"},
                {"op": "global_avg_pool", "name": "pooled"},
                {"op": "dense", "units": 8, "activation": "silu"},
                {"op": "hard_swish"},
                {"op": "elu"},
                {"op": "dense", "units": 8, "activation": "gelu"},
                {"op": "gelu", "approximate": True},
                {"op": "dense", "units": 8, "activation": "selu"},
                {"op": "hard_sigmoid"},
                {"op": "softplus"},
                {"op": "dense", "units": 7, "activation": "sigmoid"},
                {"op": "dense", "units": 6, "name": "left"},
                {"op": "dense", "units": 6, "from": "pooled", "name": "right"},
                {"op": "maximum", "with": "left"},
                {"op": "multiply", "with": "right"},
                {"op": "subtract", "with": "left"},
                {"op": "softmax"},
                {"op": "concatenate", "with": "right"},
                {"op": "dense", "units": 3, "local": True},
            ],
        },
        "strategy": {"error_feedback": True, "uplink_coding": "rice"},
        "board": {"memory": "least"},
        "augment": {"shift": 2, "scale": 0.1, "jitter": 0.05},
        "predict": {"average": 5},
    },
    "every op",
)
np.savez(
    FROZEN,
    **{
        f"{op.name}.{name}": values
        for op in {op.name: op for op, _ in graph.build(EVERY_OP.model).frozen}.values()
        for name, values in int8_reference.constants(op, np.random.default_rng(1)).items()
    },
)
BITS: dict[str, Experiment] = {**MODELS, "every-op": EVERY_OP}
# Models that keep state from one round to the next.
KEEPING: dict[str, Experiment] = {
    "keeping": sine("strategy.downlink=f32", "strategy.error_feedback=true", "model.local_start=kept")
}
# Updates with noise that is the same on every machine; their values are coded.
PRIVATE_KEYS = (
    "strategy.selection=random",
    "run.devices_per_round=20",
    "privacy.clip=0.25",
    "privacy.noise=0.5",
    "privacy.public_seed=11",
)
PRIVATE: dict[str, Experiment] = {"private": sine(*PRIVATE_KEYS, "strategy.uplink_coding=rice")}
SEED, CLIENT, ROUND = 7, 3, 5
PATIENT_RETRIES = 9  # the session gives a board up after 90 s, as the machine may be busy


def board_of(url: str) -> str:
    """The board's name in a device URL. Raises DeviceUrlError."""
    return "native" if url == "sanitized" else str(parse([url])[0].board)


@cache
def absent(url: str) -> str:
    """Why the device at ``url`` cannot run here; "" when it can."""
    try:
        lacking = boards.missing_tools(board_of(url))
    except DeviceUrlError as error:
        return str(error)
    return f"{url}: {', '.join(tool.name for tool in lacking)} not installed" if lacking else ""


def devices(urls: Sequence[str]) -> list[Any]:
    """One test parameter per device; one process runs all tests of a device, so that it is started once."""
    return [pytest.param(url, marks=pytest.mark.xdist_group(f"emulator-{url.replace('@', '-')}")) for url in urls]


def present(urls: Sequence[str]) -> list[Any]:
    """Test parameters for the devices that can run here; a single test reports those that cannot."""
    return devices([url for url in urls if not absent(url)])


@dataclass
class Board:
    """A device under test, the state it should have, and the messages that tests send it."""

    device: Device
    experiment: Experiment
    manifest: dict[str, Any] = field(repr=False)
    held: Floats | None = field(default=None, repr=False)  # weights that a test of many messages expects unchanged

    @property
    def session(self) -> Session:
        return self.device.session

    @cached_property
    def strategy(self) -> Strategy:
        return open_strategy(self.experiment, self.manifest)

    @cached_property
    def graph(self) -> graph.Graph:
        return graph.build(self.experiment.model, "test")

    @property
    def ended(self) -> bool:
        return self.device.process is None or self.device.process.poll() is not None

    @property
    def n_global(self) -> int:
        return int(self.manifest.n_global)

    @property
    def n(self) -> int:
        return int(self.manifest.n_parameters)

    @property
    def streamed(self) -> bool:
        return self.manifest.sample_source == "streamed"

    def forget(self) -> None:
        """Makes the next ``configure`` begin a new session."""
        self.session.session = int.from_bytes(os.urandom(4), "little")
        self.held = None

    def configure(self, top_k: int = 0, uplink: Dtype = Dtype.F32, selection: Selection = Selection.GLOBAL) -> None:
        """Configures both programs as a run does; ``top_k`` 0: the number of the strategy."""
        k = top_k or self.strategy.top_k
        self.session.configure(Program.TRAIN, Recipe(self.strategy.training(), k, uplink, selection))
        self.session.configure(Program.ADAPT, Recipe(self.strategy.adaptation(4), 0, uplink))

    def weights(self, seed: int = 0) -> Floats:
        """Global weights small enough that training does not diverge."""
        return np.random.default_rng(seed).normal(0, 0.2, self.n_global).astype(np.float32)

    def load(self, token: int, weights: Floats) -> Floats:
        """Loads ``weights`` in the dtype of the experiment; returns them as the device received them."""
        segments = self.strategy.download(weights)
        self.session.load(token, segments)
        return downlink.decode(segments, self.n_global)

    def fetch(self) -> Floats:
        """All weights, global then local."""
        return self.session.fetch(0, self.n)

    def steps(self, program: Program) -> int:
        strategy = self.strategy
        return (strategy.training_recipe() if program == Program.TRAIN else strategy.adaptation_recipe(4)).steps

    def images(self, count: int, seed: int = 1) -> npt.NDArray[np.uint8]:
        """Random images for the streamed model."""
        return np.random.default_rng(seed).integers(0, 256, (count, *self.manifest.input_shape), dtype=np.uint8)

    def sample(self, token: int, step: int, program: Program = Program.TRAIN) -> protocol.Sample:
        """The streamed sample of a step, the same in every pass over its set, as a board may have kept it."""
        phases = self.strategy.training() if program == Program.TRAIN else self.strategy.adaptation(4)
        sets = [(phase.sample_set, i) for phase in phases for _ in range(phase.passes) for i in range(phase.count)]
        chosen, index = sets[min(step, len(sets) - 1)]
        data = np.float32(index % 3).tobytes() + self.images(1, 100 * (chosen + 1) + index)[0].tobytes()
        return protocol.Sample(token, step, Dtype.U8, 1 / 255, data)

    def train(self, token: int, program: Program = Program.TRAIN, steps: int | None = None) -> protocol.Progress:
        """Runs a program to its end, or a streamed one up to ``steps``; sends the sample of each, kept or not."""
        progress = self.session.train(token, program, SEED, CLIENT, ROUND)
        if not self.streamed:
            return self.session.await_done(token, self.steps(program))
        for step in range(self.steps(program) if steps is None else steps):
            progress = self.session.request(self.sample(token, step, program))
        return progress

    @property
    def codes_values(self) -> bool:
        return self.experiment.strategy.codes_values

    def pull(self, token: int, k: int) -> Sequence[protocol.Record]:
        """The messages of the delta."""
        return self.session.pull_coded(token, k) if self.codes_values else self.session.pull(token, k)

    def delta(self, token: int, k: int, uplink: Dtype = Dtype.I8) -> delta.Sparse:
        """The delta as the server decodes it; ``uplink`` is checked where values are coded."""
        if self.codes_values:
            return coded_delta.decode(self.session.pull_coded(token, k), n=self.n_global, k=k, dtype=uplink)
        return delta.decode(self.session.pull(token, k), n=self.n_global, k=k, token=token)

    def refusal(self, message: protocol.Request) -> tuple[Status, int]:
        """Sends ``message`` as it is; it must be refused; returns status and detail of the refusal."""
        with pytest.raises(DeviceRefused) as refused:
            self.session.request(raw(message.type_id, message.encode()))
        return refused.value.status, refused.value.detail

    def forward(self, weights: Floats, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Outputs of the NumPy network in float64, one row per input."""
        return np.stack([run(self.graph, weights.astype(np.float64), {}, x.astype(np.float64))[0].ravel() for x in inputs])


@dataclass(frozen=True, slots=True)
class Anything(protocol.Record):
    """An answer of any type."""

    data: Annotated[bytes, protocol.Rest()]


def raw(type_id: int, payload: bytes) -> protocol.Request:
    """A message of an arbitrary type with an arbitrary payload."""

    @dataclass(frozen=True, slots=True)
    class Raw(protocol.Request):
        data: Annotated[bytes, protocol.Rest()]

    Raw.type_id, Raw.answer = type_id, Anything
    return Raw(payload)


class Boards:
    """Starts each kind of board once per model and keeps it running; a new session number clears the state of earlier tests."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._running: dict[tuple[str, str], Board] = {}

    def __call__(self, url: str, model: str) -> Board:
        running = self._running.get((url, model))
        if running is None or running.ended:
            self._running[url, model] = self._start(url, model)
        return self._running[url, model]

    def _start(self, url: str, model: str) -> Board:
        if reason := absent(url):
            pytest.skip(reason)
        experiment = (BITS | KEEPING | PRIVATE)[model]
        if url == "sanitized":
            program = sanitized(experiment, self._folder / model, self._folder / "findings")
            (device,) = self._stack.enter_context(launch(parse(["native:1"]), lambda board: program))
        else:
            (device,) = self._stack.enter_context(running(design_of(experiment, model), [url], Quiet())).devices
        device.session.retries = PATIENT_RETRIES
        return Board(device, experiment, design_of(experiment, model, board_of(url)).manifest)

    def findings(self) -> str:
        """Reports of the sanitizers since the last call."""
        file = self._folder / "findings"
        text = file.read_text(errors="replace") if file.exists() else ""
        file.unlink(missing_ok=True)
        return text


def every_board_serves(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No board takes a second client before every board has taken its first, whatever the machine's scheduling."""
    first = threading.Barrier(count, timeout=HUNG_SECONDS)
    seen: set[str] = set()
    federate = client_program.federate

    def wait_for_all(session: Session, *job: Any) -> client_program.ClientResult:
        if session.name not in seen:
            seen.add(session.name)
            first.wait()
        return federate(session, *job)

    monkeypatch.setattr(client_program, "federate", wait_for_all)


def sanitized(experiment: Experiment, folder: Path, findings: Path) -> Path:
    """The native firmware under the address and undefined-behaviour sanitizers, from the sources of the real build.

    A fault ends it; the sanitizers write their reports to the file ``findings``.
    """
    start = folder / "start"
    if start.exists():
        return start
    made = design(experiment, boards.load("native"), "test")
    emit.write(made, folder, "pytest")
    firmware = find("firmware")
    sources: Sequence[Path] = [
        *sorted((firmware / "core").glob("*.cpp")),
        *(sorted((firmware / "core" / "store").glob("*.cpp")) if made.manifest.store else []),
        *sorted((firmware / "port" / "native").glob("*.cpp")),
        firmware / "app" / "main.cpp",
        firmware / "app" / f"source_{made.manifest.sample_source}.cpp",
    ]
    sanitizers = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    sanitizers += CHECKS_ARE_CALLS
    includes = [f"-I{folder}", f"-I{firmware / 'core'}", f"-I{firmware / 'app'}"]
    program = folder / "firmware"
    command = ["g++", *compiler_flags(), *sanitizers, *includes, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    start.write_text(f'#!/bin/sh\nUBSAN_OPTIONS=print_stacktrace=1 exec "{program}" "$@" 2>>"{findings}"\n')
    start.chmod(0o755)
    return start
