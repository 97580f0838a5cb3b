"""Measurements: exact instruction counts from the emulator, memory from the linked firmware."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinymetafed_codegen.protocol import Dtype, Phase, Program, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment

from . import runner
from .learn import downlink
from .learn.weights import initial
from .link.messages import Example
from .link.session import Session
from .runner import Observer

STEPS = 8
REPEATS = 3  # a message that arrives in the middle of a step adds its interrupts: the smallest count has none
_NANOSECONDS = 1024  # of virtual time per instruction at -icount shift=10


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
    weights = downlink.encode(initial(manifest, experiment.run.seed, experiment.model.init), Dtype.F32, [manifest["n_global"]])
    counts: dict[str, int] = {}
    with runner.running(experiment, source, [f"qemu:1@{board}"], observer, icount=True) as devices:
        session, per_second = devices[0].session, devices[0].hello.ticks_per_second
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
        return session.await_done(token, STEPS).ticks
    levels = (np.arange(STEPS * int(np.prod(manifest["input_shape"])), dtype=np.uint32) * 2_654_435_761 >> 24).astype(np.uint8)
    target = np.zeros(manifest["target_size"], np.float32)
    return session.stream(token, [Example(target, row, 1 / 255) for row in levels.reshape(STEPS, -1)]).ticks
