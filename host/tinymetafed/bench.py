"""Measurements: exact instruction counts from the emulator, memory from the linked firmware, time on a real line's pace."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen import boards, generate, graph, protocol, spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Dtype, Phase, Program, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment

from . import runner
from .firmware import require_tools
from .learn import delta, downlink
from .learn.strategy import TinyMetaFed
from .learn.weights import initial
from .link.exchange import Traffic
from .link.faults import paced
from .link.frame import encode
from .link.launch import DEFAULT_BOARDS, DeviceSpec, launch
from .link.messages import Example
from .link.session import Session
from .runner import Observer

STEPS = 8
REPEATS = 3  # the smallest count is the one that nothing came in between
QUIET_SECONDS = 0.3
_NANOSECONDS = 1024  # of virtual time per instruction at -icount shift=10


BAUD = 115200
TURN_AROUND_SECONDS = 0.016  # the default latency timer of a USB bridge
CLOCK_HZ = 64_000_000  # of the Arduino Nano 33 BLE
WINDOWS = (256, 512, 1024, 2048)
BULK_ENTRIES = 16_384  # float32 weights down, and so many delta entries up, to see the steady state
WIRE_TYPES = {"i8 up, f16 down": ("i8", "f16"), "i8 both ways": ("i8", "i8"), "f32 both ways": ("f32", "f32")}


class BenchError(Exception):
    """Something that cannot be measured here."""


def kernels(experiment: Experiment, source: str, board: str, observer: Observer) -> dict[str, Any]:
    """Instructions per training step of each variant, and the firmware's flash and static RAM in bytes."""
    counts = instructions(experiment, source, board, observer)
    built = runner.build(experiment, source, board)
    return {
        "board": board,
        "instructions_per_step": counts,
        "flash_bytes": built.flash_bytes,
        "ram_bytes": built.ram_bytes,
    }


def instructions(experiment: Experiment, source: str, board: str, observer: Observer) -> dict[str, int]:
    """Exact instructions of one training step (forward, backward and update of one sample), mean of 8, by variant.

    Counted by the board's timer in an emulator that advances it by a fixed time per instruction, so the figure depends
    neither on the host nor on its load; on a ReLU's mask it does by a few instructions.
    """
    if board == "native":
        raise BenchError("board 'native' has no instruction counter; choose an emulated board such as mps2")
    manifest = runner.manifest_of(experiment, source, board)
    weights = TinyMetaFed(experiment, manifest).download(initial(manifest, experiment.run.seed, experiment.model.init))
    counts: dict[str, int] = {}
    with runner.running(experiment, source, [f"qemu:1@{board}"], observer, icount=True) as fleet:
        session, per_second = fleet.devices[0].session, fleet.devices[0].hello.ticks_per_second
        observer.stage("counting instructions", len(Variant))
        for variant in Variant:
            clamp = experiment.strategy.output_clamp
            phase = Phase(variant, SampleSet.SUPPORT, STEPS, 1, experiment.strategy.global_learning_rate, clamp)
            session.configure(Program.ADAPT, (phase,), 0, Dtype.F32)
            ticks = min(_train(session, manifest, weights) for _ in range(REPEATS))
            executed = round(ticks * 1e9 / per_second / _NANOSECONDS)
            counts[variant.name.lower()] = round(executed / STEPS)
            observer.advance()
    return counts


def _train(session: Session, manifest: dict[str, Any], weights: list[downlink.Segment]) -> int:
    """Ticks of STEPS training steps, on the board's own samples or on grey levels made up here."""
    token = session.next_round()
    session.load(token, weights)
    session.train(token, Program.ADAPT, 1, 0, 0)
    if manifest["source"] != "streamed":
        time.sleep(QUIET_SECONDS)  # a question that arrives in the middle of a step adds its interrupts to it
        return session.await_done(token, STEPS).ticks
    ticks = [0]  # after each sample, for all of a large model's may be more than the counter holds
    session.stream(token, _made_up(manifest, STEPS), lambda progress: ticks.append(progress.ticks))
    return sum((after - before) % (1 << 32) for before, after in pairwise(ticks))


def presence() -> Experiment:
    """8-32-64-32-1 with its first two layers global and P = 50: the presence detector of the TinyMetaFed paper."""
    raw = {
        "task": {"kind": "omniglot"},  # a task whose samples are streamed: the firmware then takes any model
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
    """One round on a paced line; seconds of its parts, bytes, and ticks of its training steps."""

    load: float
    control: float  # Train and Await
    pull: float
    load_bytes: int
    pull_bytes: int
    traffic: Traffic
    ticks: int


def wire(experiment: Experiment | None, source: str, observer: Observer) -> dict[str, Any]:
    """What a serial line at 115200 bit/s behind a USB bridge carries, on a native device paced to it.

    ``bulk``: share of the line's bytes that weights down and deltas up use, by receive window. ``framing``: bytes that
    frames add to chunks. ``rounds``: bytes and seconds of one round of ``experiment`` (None: the paper's presence
    detector) by wire types; samples are not counted, for a board has its own. ``seconds`` adds the training steps'
    instructions at 64 MHz, one per cycle, without flash wait states: an estimate, not measured on a board.
    Raises BenchError, LinkError.
    """
    chosen = presence() if experiment is None else experiment
    for board in ("native", "mps2"):
        require_tools(board)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-bench-") as folder:
        bulk = _bulk_model()
        observer.stage("filling the line", len(WINDOWS))
        shares = []
        for window in WINDOWS:
            timed = _one_round(bulk, "native", window, Path(folder) / str(window))
            capacity = BAUD / 10
            shares.append(
                {
                    "window": window,
                    "down": round(timed.load_bytes / capacity / timed.load, 3),
                    "up": round(timed.pull_bytes / capacity / timed.pull, 3),
                }
            )
            observer.advance()
        observer.stage("rounds on the line", len(WIRE_TYPES))
        counted = _one_round(chosen, "mps2", None, Path(folder) / "mps2")
        instructions = round(counted.ticks * 1e9 / boards.load("mps2").ticks_per_second / _NANOSECONDS)
        rounds = []
        for label, (uplink, down) in WIRE_TYPES.items():
            strategy = chosen.strategy.model_copy(update={"uplink": uplink, "downlink": down})
            typed = chosen.model_copy(update={"strategy": strategy})
            timed = _one_round(typed, "native", None, Path(folder) / "native")
            on_wire = timed.load + timed.control + timed.pull
            rounds.append(
                {
                    "types": label,
                    "bytes_down": timed.traffic.down - timed.traffic.samples_down,
                    "bytes_up": timed.traffic.up - timed.traffic.samples_up,
                    "wire_seconds": round(on_wire, 4),
                    "seconds": round(on_wire + instructions / CLOCK_HZ, 4),
                }
            )
            observer.advance()
    return {
        "source": source if experiment is not None else "8-32-64-32-1, first two layers global, P = 50",
        "baud": BAUD,
        "turn_around_seconds": TURN_AROUND_SECONDS,
        "bulk": shares,
        "framing": [{"chunk": size, "share": round(framing(size), 4)} for size in WINDOWS],
        "rounds": rounds,
        "training_instructions": instructions,
        "clock_hz": CLOCK_HZ,
        "estimate": "training steps' instructions at 64 MHz, one per cycle, plus the time on the paced line; not from a board",
    }


def framing(chunk: int) -> float:
    """Share of a ``chunk``'s bytes on the wire that is type, sequence, CRC, COBS and delimiter; of random data."""
    payload = np.random.default_rng(1).bytes(protocol.payload_capacity(chunk))
    return 1 - len(payload) / len(encode(protocol.Load.type_id, 1, payload))


def _bulk_model() -> Experiment:
    """One large global layer and hardly any training: what takes time is the line."""
    layers = [{"op": "dense", "units": 128}, {"op": "dense", "units": 1, "local": True}]
    raw = {
        "task": {"kind": "omniglot", "ways": 2, "support": 1, "query": 1},
        "model": {"input": [BULK_ENTRIES // 128 - 1], "loss": "mse", "layers": layers},
        "strategy": {"top_p": 50, "local_passes": 1, "global_passes": 1, "uplink": "f16", "downlink": "f16"},
    }
    return spec.parse(raw, "bulk")


def _one_round(experiment: Experiment, board: str, window: int | None, folder: Path) -> _Timed:
    """One round on one device that announces ``window`` (None: the board's own), paced unless it is emulated."""
    program, manifest = _program(experiment, board, window, folder)
    strategy = TinyMetaFed(experiment, manifest)
    weights = initial(manifest, 1, experiment.model.init)
    kind = next(kind for kind, name in DEFAULT_BOARDS.items() if name == board)
    icount = kind == "qemu"
    faults = None if icount else paced(BAUD, TURN_AROUND_SECONDS)
    with launch([DeviceSpec(f"{kind}:1", kind, board)], lambda name: program, icount=icount, faults=faults) as (device,):
        session = device.session
        session.configure(Program.TRAIN, strategy.training(), strategy.top_k, strategy.uplink)
        token = session.next_round()
        start, before = time.monotonic(), session.traffic
        session.load(token, strategy.download(weights))
        loaded, at_loaded = time.monotonic(), session.traffic
        session.train(token, Program.TRAIN, 1, 0, 0)
        control = 2 * (time.monotonic() - loaded)  # Train, and once more the same for Await
        steps = sum(phase.count * phase.passes for phase in strategy.training())
        if manifest["source"] == "streamed":
            progress = session.stream(token, _made_up(manifest, steps))
        else:
            progress = session.await_done(token, steps)
        trained, at_trained = time.monotonic(), session.traffic
        chunks = session.pull(token, strategy.top_k)
        done, after = time.monotonic(), session.traffic
        delta.decode(chunks, n=strategy.n_global, k=strategy.top_k, round=token)
        down, up = (at_loaded - before).down, (after - at_trained).up
        return _Timed(loaded - start, control, done - trained, down, up, after - before, progress.ticks)


def _made_up(manifest: dict[str, Any], count: int) -> list[Example]:
    """Grey levels that look random, and targets to match."""
    size = int(np.prod(manifest["input_shape"]))
    levels = (np.arange(count * size, dtype=np.uint32) * 2_654_435_761 >> 24).astype(np.uint8).reshape(count, size)
    return [Example(np.full(manifest["target_size"], row[0] / 255, np.float32), row, 1 / 255) for row in levels]


def _program(experiment: Experiment, board: str, window: int | None, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The firmware of any model, whatever its task, with any receive window, by one call of the compiler."""
    facts = boards.load(board)
    chosen = facts if window is None else replace(facts, receive_window=window)
    design = generate.settle(experiment, chosen, graph.build(experiment.model, "bench"), "bench")
    generate.write(design, folder, "tinymetafed bench wire")
    program = folder / "firmware.elf"
    if not program.exists():
        raw = json.loads((find("boards") / f"{board}.json").read_text(encoding="utf-8"))["tinymetafed"]
        flags = json.loads((find("boards") / "platform" / "flags.json").read_text(encoding="utf-8"))
        core = find("firmware")
        ports = [path for port in raw["ports"] for path in sorted((core / "port" / port).glob("*.cpp"))]
        sources = [*sorted((core / "core").glob("*.cpp")), *ports]
        sources += [core / "app" / "main.cpp", core / "app" / f"source_{design.manifest['source']}.cpp"]
        command = [f"{raw['toolchain_prefix']}g++", raw["optimization"], *flags["common"], *flags["cxx"]]
        command += [*raw["machine_flags"], *(f"-I{path}" for path in (folder, core / "core", core / "app"))]
        command += [*map(str, sources), *flags["link"], *raw["link_flags"], "-o", str(program)]
        if raw["linker_script"]:
            command += [f"-Wl,--defsym=board_{what}_bytes={raw[f'{what}_bytes']}" for what in ("ram", "flash")]
            command += ["-T", str(find("boards") / raw["linker_script"])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"firmware for {board}: the compiler says: {done.stderr.strip()[-2000:]}")
    return program, design.manifest
