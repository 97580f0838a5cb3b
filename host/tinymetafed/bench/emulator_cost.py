"""Processor time that emulators take for each byte that a board receives."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import load
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.running import build_firmware
from ..federation.observer import Observer, Silent
from ..runs import TEST_URL, training
from ..runs.setup import set_up
from .command_cost import own_and_others

BOARDS = ("mps2", "esp32isa")
EXAMPLE = "examples/sine.toml"
TESTED_ON = "native"  # the board of TEST_URL
ROUNDS = (10, 110)  # of a short and of a long run, whose difference counts
DOWNLINKS = ("f16", "f32")  # the same weights in two and in four bytes each


def byte_us(observer: Observer) -> dict[str, float]:
    """Microseconds of processor time of an emulator for each byte on the line to its board, by board.

    What rounds take more whose weights have twice the bytes. A board that cannot be built or run on this machine is left out.

    Raises:
        Error: BuildError, LaunchError, LinkError, SpecError or StoreError.
    """
    found = {}
    for board in BOARDS:
        if lacking := boards.missing_tools(board):
            observer.event(f"{board}: {', '.join(need.name for need in lacking)} not installed")
            continue
        observer.stage(f"bytes to an emulated {board}", len(DOWNLINKS))
        rounds = []
        with temporary_folder("bench") as folder:
            for downlink in DOWNLINKS:
                rounds.append(_round(board, downlink, folder))
                observer.advance()
        (few, few_bytes), (many, many_bytes) = rounds
        found[board] = round(1e6 * (many - few) / (many_bytes - few_bytes), 1)
    return found


def _round(board: str, downlink: str, folder: Path) -> tuple[float, float]:
    """Seconds of the emulator's processor time in a round, and bytes down."""
    taken = []
    for count in ROUNDS:
        changes = [f"run.rounds={count}", "evaluation.every=0", "evaluation.tasks=1", f"strategy.downlink={downlink}"]
        setup = set_up(load(find(EXAMPLE), changes), EXAMPLE, None)
        for each in (board, TESTED_ON):
            build_firmware(setup.design, each)
        _, before = own_and_others()
        run = training.train(setup, [f"qemu:1@{board}"], [TEST_URL], folder / f"{downlink}-{count}", Silent())
        _, after = own_and_others()
        taken.append((after - before, run.bytes_down))
    (few, few_bytes), (many, many_bytes) = taken
    more = ROUNDS[1] - ROUNDS[0]
    return (many - few) / more, (many_bytes - few_bytes) / more
