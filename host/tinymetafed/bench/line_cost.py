"""Measurements of the serial line: its use by bulk transfers, and bytes and time of a round at the speed of a real line."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen import protocol, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Program, Recipe
from tinymetafed_codegen.section import TomlTable
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.toolchain import require_tools

from ..devices.client_program import pulled
from ..devices.device_urls import DEFAULT_BOARDS, DeviceSpec
from ..devices.firmware import Deviation
from ..devices.link.faults import paced
from ..devices.link.session import Session
from ..devices.running import build_firmware
from ..federation.clients import Traffic
from ..federation.observer import Observer
from ..learn.codecs import delta
from ..learn.codecs.difference import Versions
from ..learn.strategies import Strategy, open_strategy
from ..learn.weights import Floats, initial
from ..runs.setup import design_of
from ..wire.frame import encode
from . import keeping_nothing, launched, synthetic_samples
from .kernel_cost import executed

BAUD = 115200
TURN_AROUND_SECONDS = 0.016  # the default latency timer of a USB bridge
BOARD = "mps2"  # the board whose training steps are counted; they are assumed to run at its chip's clock
WINDOWS = (256, 512, 1024, 2048)
BULK_ENTRIES = 16_384  # number of weights in the bulk measurement, enough for a steady state
WIRE_TYPES = {"i8 up, f16 down": ("i8", "f16"), "i8 both ways": ("i8", "i8"), "f32 both ways": ("f32", "f32")}


def presence() -> Experiment:
    """An experiment with the paper's presence detector: 8-32-64-32-1, the first two layers global, P = 50.

    Source: TinyMetaFed (arXiv 2307.06822).
    """
    raw: TomlTable = {
        # A task whose samples are streamed and may have any shape; no file is read.
        "task": {"kind": "folder", "path": ".", "support": 25, "query": 25},
        "data": {"normalise": "none"},
        "model": {
            "input": [8],
            "loss": "mse",
            "layers": [
                {"op": "dense", "units": 32, "activation": "relu"},
                {"op": "dense", "units": 64, "activation": "relu"},
                {"op": "dense", "units": 32, "activation": "relu", "local": True},
                {"op": "dense", "units": 1, "local": True},
            ],
        },
        "strategy": {"top_p": 50},
    }
    return spec.parse(raw, "presence")


@dataclass(frozen=True)
class _Timed:
    """One round on a paced line: seconds and bytes of its parts, and ticks of its training steps."""

    load: float
    control: float  # Train and Await
    pull: float
    load_bytes: int
    pull_bytes: int
    traffic: Traffic
    ticks: int


@dataclass(frozen=True)
class LineShare:
    """The share of the line's capacity that bulk transfers of weights (down) and deltas (up) use, by receive window."""

    window: int
    down: float
    up: float


@dataclass(frozen=True)
class FramingShare:
    """The share of framing in the bytes of a chunk on the wire."""

    chunk: int
    share: float


@dataclass(frozen=True)
class WireRound:
    """One round with given dtypes, without samples; ``seconds`` includes the training steps."""

    types: str
    bytes_down: int
    bytes_up: int
    wire_seconds: float
    seconds: float


@dataclass(frozen=True)
class WireCost:
    """Measurements of a paced serial line, and of rounds of ``source`` on it.

    The time of training steps is an estimate, not measured on a board: their instructions at ``clock_hz``, one per cycle,
    without flash wait states.
    """

    source: str
    baud: int
    turn_around_seconds: float
    bulk: list[LineShare]
    framing: list[FramingShare]
    rounds: list[WireRound]
    training_instructions: int
    clock_hz: int
    estimate: str


def wire(experiment: Experiment | None, source: str, observer: Observer) -> WireCost:
    """Measures a line like a serial one at 115200 bit/s behind a USB bridge, with a native device on a paced line.

    Args:
        experiment: The experiment whose rounds are measured; None for the paper's presence detector.
        source: Its name.
        observer: Is told of progress.

    Returns:
        The figures.

    Raises:
        Error: BenchError, BuildError, SpecError or LinkError.
    """
    chosen = presence() if experiment is None else experiment
    for board in ("native", BOARD):
        require_tools(boards.load(board))
    chip = boards.load(BOARD).stands_for
    assert chip is not None
    bulk = _bulk_model()
    observer.stage("filling the line", len(WINDOWS))
    shares = []
    for window in WINDOWS:
        timed = _one_round(bulk, "native", window)
        capacity = BAUD / 10
        shares.append(
            LineShare(
                window=window,
                down=round(timed.load_bytes / capacity / timed.load, 3),
                up=round(timed.pull_bytes / capacity / timed.pull, 3),
            )
        )
        observer.advance()
    observer.stage("rounds on the line", len(WIRE_TYPES))
    instructions = executed(_one_round(chosen, BOARD).ticks, boards.load(BOARD))
    rounds = []
    for label, (uplink, down) in WIRE_TYPES.items():
        strategy = chosen.strategy.model_copy(update={"uplink": uplink, "downlink": down})
        timed = _one_round(chosen.model_copy(update={"strategy": strategy}), "native")
        on_wire = timed.load + timed.control + timed.pull
        rounds.append(
            WireRound(
                types=label,
                bytes_down=timed.traffic.down - timed.traffic.samples_down,
                bytes_up=timed.traffic.up - timed.traffic.samples_up,
                wire_seconds=round(on_wire, 4),
                seconds=round(on_wire + instructions / chip.clock_hz, 4),
            )
        )
        observer.advance()
    return WireCost(
        source=source if experiment is not None else "8-32-64-32-1, first two layers global, P = 50",
        baud=BAUD,
        turn_around_seconds=TURN_AROUND_SECONDS,
        bulk=shares,
        framing=[FramingShare(size, round(framing(size), 4)) for size in WINDOWS],
        rounds=rounds,
        training_instructions=instructions,
        clock_hz=chip.clock_hz,
        estimate=f"training steps' instructions at {chip.clock_hz / 1e6:g} MHz, one per cycle, plus the time on the paced "
        "line; not from a board",
    )


def framing(chunk: int) -> float:
    """Share of type, sequence, CRC, COBS and delimiter in a frame of random data that fills ``chunk`` bytes."""
    payload = np.random.default_rng(1).bytes(protocol.payload_capacity(chunk))
    return 1 - len(payload) / len(encode(protocol.Load.type_id, 1, payload))


def _bulk_model() -> Experiment:
    """One large global layer and hardly any training, so that the line takes nearly all of the time."""
    inputs = 15  # a sample that fits into the smallest window
    large: TomlTable = {"op": "dense", "units": BULK_ENTRIES // (inputs + 1)}
    small: TomlTable = {"op": "dense", "units": 1, "local": True}
    raw: TomlTable = {
        "task": {"kind": "folder", "path": ".", "support": 2, "query": 2},
        "data": {"normalise": "none"},
        "model": {"input": [inputs], "loss": "mse", "layers": [large, small]},
        "strategy": {"top_p": 50, "local_passes": 1, "global_passes": 1, "uplink": "f16", "downlink": "f16"},
    }
    return spec.parse(raw, "bulk")


def _trained(session: Session, strategy: Strategy, manifest: ModelManifest, recipe: Recipe, weights: Floats) -> delta.Sparse:
    """A client's delta of one round."""
    token = session.next_token()
    session.load(token, strategy.download(weights))
    session.train(token, Program.TRAIN, 1, 0, 0)
    if manifest.streamed:
        session.stream(token, synthetic_samples(manifest, recipe.steps))
    else:
        session.await_done(token, recipe.steps)
    return delta.decode(session.pull(token, recipe.top_k), n=strategy.n_global, k=recipe.top_k, token=token)


def _one_round(experiment: Experiment, board: str, window: int | None = None) -> _Timed:
    """One round on a device with a receive window of ``window`` bytes (None: the board's own), paced unless emulated.

    With a download by difference it is the round after the board's first one.
    """
    built = build_firmware(design_of(keeping_nothing(experiment), "bench"), board, Deviation(receive_window=window))
    manifest = built.manifest
    strategy = open_strategy(experiment, manifest)
    weights = initial(manifest, 1, experiment.model.init)
    kind = next(kind for kind, name in DEFAULT_BOARDS.items() if name == board)
    icount = kind == "qemu"
    faults = None if icount else paced(BAUD, TURN_AROUND_SECONDS)
    with launched(DeviceSpec(f"{kind}:1", kind, board), built, icount=icount, faults=faults) as device:
        session = device.session
        recipe = strategy.training_recipe()
        session.configure(Program.TRAIN, recipe)
        if strategy.spec.takes_differences:  # the board has taken part in the round before
            session.versions = Versions()
            weights = strategy.update(weights, [_trained(session, strategy, manifest, recipe, weights)], 0)
        token = session.next_token()
        start, before = time.monotonic(), session.traffic
        session.load(token, strategy.download(weights))
        loaded, at_loaded = time.monotonic(), session.traffic
        session.train(token, Program.TRAIN, 1, 0, 0)
        control = 2 * (time.monotonic() - loaded)  # the time of Train, doubled for Await
        steps = recipe.steps
        streamed = manifest.streamed
        progress = session.stream(token, synthetic_samples(manifest, steps)) if streamed else session.await_done(token, steps)
        trained, at_trained = time.monotonic(), session.traffic
        pulled(
            session,
            token,
            recipe,
            strategy.n_global,
            codes_values=strategy.spec.codes_values,
            levels=strategy.spec.uplink_levels,
        )
        done, after = time.monotonic(), session.traffic
        down, up = (at_loaded - before).down, (after - at_trained).up
        return _Timed(loaded - start, control, done - trained, down, up, after - before, progress.ticks)
