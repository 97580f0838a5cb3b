"""Cost of a whole adaptation: exact instructions of all its training steps, with and without kept activations."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.protocol import Program, Recipe, SampleSet
from tinymetafed_codegen.spec import Experiment

from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Firmware
from ..devices.link.deadline import Deadline
from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from ..runs.setup import measured_design
from . import in_qemu, keeping_nothing, launched, synthetic_samples
from .kernel_cost import QUIET_SECONDS, executed


@dataclass(frozen=True)
class AdaptationCost:
    """An adaptation with all its steps on one board: ``instructions`` as the board trains it, ``whole`` with whole steps.

    ``samples`` are those of the set, ``kept`` those whose activation the board keeps, ``kept_bytes`` the RAM for it.
    ``steps`` are training steps by variant, ``passes`` those passes over the samples, by variant, that compute all layers;
    ``sent`` are those in which the host sends the samples; empty where the board makes them.
    """

    board: str
    samples: int
    steps: dict[str, int]
    passes: dict[str, int]
    sent: dict[str, int]
    kept: int
    kept_bytes: int
    instructions: int
    whole: int

    @property
    def messages(self) -> int:
        """How many samples the host sends."""
        return self.samples * sum(self.sent.values())

    def as_json(self) -> dict[str, Any]:
        """The JSON value that ``bench adaptation --json`` prints."""
        return asdict(self)


def adaptation(experiment: Experiment, source: str, board: str, observer: Observer) -> AdaptationCost:
    """Counts the instructions of the adaptation of a new client, as the board trains it and with whole steps.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.

    Returns:
        The costs; both are equal where the board keeps no activations.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    designed = measured_design(experiment, source)
    facts = in_qemu(board, designed.boards)
    observer.stage(f"building firmware for {board}")
    built = build_firmware(designed, board)
    count = experiment.task.count(SampleSet.ADAPT)
    recipe = open_strategy(designed.experiment, built.manifest).adaptation_recipe(count)
    whole = instructions = instructions_of(designed.experiment, facts, built, recipe, observer)
    kept = built.manifest.kept
    if kept is not None:
        plain = measured_design(keeping_nothing(designed.experiment), source)
        whole = instructions_of(plain.experiment, facts, build_firmware(plain, board), recipe, observer)
    steps = {phase.variant.name.lower(): phase.steps for phase in recipe.phases}
    names = [phase.variant.name.lower() for phase in recipe.phases]
    whole_passes = [phase.passes for phase in recipe.phases] if kept is None else kept.passes_sent(recipe.phases)
    passes = dict(zip(names, whole_passes, strict=True))
    sent = dict(zip(names, built.manifest.passes_sent(recipe.phases), strict=True)) if built.manifest.streamed else {}
    held, size = (0, 0) if kept is None else (min(kept.samples, count), kept.bytes)
    return AdaptationCost(board, count, steps, passes, sent, held, size, instructions, whole)


def instructions_of(experiment: Experiment, board: Board, built: Firmware, recipe: Recipe, observer: Observer) -> int:
    """Counts the instructions of all training steps of an adaptation.

    Args:
        experiment: The experiment.
        board: The emulated board.
        built: The experiment's firmware for it.
        recipe: The adaptation.
        observer: Is told of progress.

    Raises:
        LinkError: The board failed.
    """
    manifest = built.manifest
    weights = open_strategy(experiment, manifest).download(initial(manifest, experiment.run.seed, experiment.model.init))
    spec = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
    observer.stage(f"an adaptation on {spec.url}", recipe.steps)
    with launched(spec, built, boards=Catalogue(board.project), icount=True) as device:
        session = device.session
        session.configure(Program.ADAPT, recipe)
        token = session.next_token()
        session.load(token, weights)
        session.train(token, Program.ADAPT, 1, 0, 0)
        if not manifest.streamed:
            return executed(session.await_done(token, recipe.steps).ticks, board)
        total = last = end = 0
        deadline = Deadline(recipe.steps, session.clock.monotonic())
        sent = manifest.passes_sent(recipe.phases)
        for phase, passes, following in zip(recipe.phases, sent, [*sent[1:], 1], strict=True):
            samples = synthetic_samples(manifest, phase.count)
            for i in range(passes * phase.count):
                # One step at a time: bytes received during a step add interrupts to it, and ticks of all steps may overflow.
                sample = samples[i % phase.count]
                progress = session.sample(token, end + i, sample.targets, sample.inputs, sample.scale)
                total, last = total + (progress.ticks - last) % (1 << 32), progress.ticks
                observer.advance()
            end += phase.steps
            if passes < phase.passes and following:  # the board trains the others by itself, up to the next that is sent
                time.sleep(QUIET_SECONDS)
                progress = session.await_step(token, end, progress, recipe.steps, deadline)
                total, last = total + (progress.ticks - last) % (1 << 32), progress.ticks
    return executed(total, board)
