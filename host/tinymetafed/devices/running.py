"""Devices of one experiment: builds firmware, starts processes, opens ports, checks the firmware of each device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tomli_w

from tinymetafed_codegen import emit
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import dump
from tinymetafed_codegen.toolchain import build_root

from ..federation.observer import Observer
from ..learn.codecs.difference import Versions
from . import firmware
from .board_keys import authenticate
from .board_stores import problem, run_number
from .device import Device
from .device_urls import parse
from .firmware import AS_THE_BOARD_SAYS, Deviation, Firmware
from .firmware_project import flashing, writing_project
from .fleet import Fleet
from .launch import launch, require
from .link.faults import FaultPlan
from .link.link_errors import WrongFirmware
from .replay import recordings_of
from .roster import PATIENCE_SECONDS
from .serial_port import UsbBus


def build_firmware(design: Design, name: str, deviation: Deviation = AS_THE_BOARD_SAYS) -> Firmware:
    """Builds a design's firmware for a board.

    Args:
        design: The experiment's model.
        name: The board's name.
        deviation: Settings that replace the board's.

    Returns:
        The firmware.

    Raises:
        BuildError: The build failed.
        SpecError: The model cannot run on the board.
        BudgetError: The model does not fit the board's memory.
    """
    board = design.boards.load(name)
    window = board.receive_window if deviation.receive_window is None else deviation.receive_window
    on_board = design.on(replace(board, receive_window=window))
    with writing_project(design) as experiment:
        # All these kinds of firmware have the model's hash; `bench` builds several.
        options = design.experiment.board
        key = experiment.parent.name + "-keeps-nothing" * (not options.keeps) + "-least" * (options.memory == "least")
        # This process knows the design; PlatformIO's would have to load the code generator and make it again.
        generated = build_root() / deviation.folder(key) / f"generated-{name}"
        emit.write(on_board, generated, emit.command(experiment, board))
        return firmware.build(experiment, board, key=key, deviation=deviation, generated=generated)


class Programs:
    """The programs of a run's boards; each pair of experiment and board is built once."""

    def __init__(self) -> None:
        """No program is built yet."""
        self._built: dict[tuple[str, str], Path] = {}

    def build(self, design: Design, board: str, observer: Observer) -> Path:
        """The program of a design for a board. Raises BuildError, SpecError, BudgetError."""
        key = (tomli_w.dumps(dump(design.experiment)), board)
        if key not in self._built:
            observer.stage(f"building firmware for {board}")
            self._built[key] = build_firmware(design, board).program
        return self._built[key]


def _expected_on(design: Design, device: Device) -> Design:
    """The design for the board that a device says it is. Raises WrongFirmware if it cannot run there."""
    try:
        return design.on(design.boards.named(device.board))
    except Error as error:
        why = str(error).partition("; ")[0]
        raise WrongFirmware(
            f"{device.url}: its firmware says that it is of board '{device.board}', where this experiment cannot run: {why}; "
            "connect the board that was there, or flash this experiment's firmware"
        ) from None


@contextmanager
def running(
    design: Design,
    urls: Sequence[str],
    observer: Observer,
    *,
    data_sha256: str = "",
    programs: Programs | None = None,
    icount: bool = False,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    bus: UsbBus | None = None,
    authenticates: bool = True,
    ids: Iterator[int] | None = None,
    purpose: str = "",
) -> Iterator[Fleet]:
    """Builds firmware where needed, starts or opens the devices and checks their firmware; stops them at the end.

    Args:
        design: The experiment's model.
        urls: Device URLs.
        observer: Is told of stages and events.
        data_sha256: SHA-256 of the task's data, by which boards with a store tell runs apart; "" where the data are fixed.
        programs: The programs that the run has built so far; None for none.
        icount: Emulators count instructions exactly.
        faults: Faults to inject between host and devices.
        record: File to record every byte in.
        bus: The USB ports of this machine; None to look for them.
        authenticates: Whether boards of an authenticated run are, and processes get their keys; otherwise they are left to be
            enrolled.
        ids: Gives the unique ids of processes without a store, as for ``launch``.
        purpose: What the devices are for, as the observer is told; "" where that is clear.

    Yields:
        The devices as a fleet.

    Raises:
        Error: BuildError, LaunchError or LinkError.
    """

    authenticated = design.experiment.run.is_authenticated
    # A round that has a deadline leaves out whoever is away then, so nobody is lost.
    patience = PATIENCE_SECONDS if design.experiment.run.deadline is None else math.inf
    number = run_number(design.experiment, data_sha256)
    versions = Versions() if design.experiment.strategy.takes_differences else None

    # Boards come back all the time in a long run. What one is expected to be is found out once for each kind of board.
    expected: dict[str, tuple[ModelManifest, str]] = {}

    def expected_of(device: Device) -> tuple[ModelManifest, str]:
        if device.board not in expected:
            on_board = _expected_on(design, device)
            with writing_project(design) as experiment:
                expected[device.board] = on_board.manifest, flashing(experiment, on_board.board)
        return expected[device.board]

    def check(device: Device) -> None:
        manifest, remedy = expected_of(device)
        device.session.check(device.hello, manifest, remedy)
        if authenticated and not authenticates:
            return
        if authenticated:
            authenticate(device)
        device.session.manifest = manifest
        device.session.versions = versions
        device.session.on_event = observer.event
        if (store := manifest.store) is not None:
            device.session.name_bytes = store.name_bytes
        if store is not None and (wrong := problem(device.session.recall(number).state)):
            observer.event(f"{device.url}: {wrong}")

    specs = parse(urls, design.boards)
    require(specs, design.boards)
    known = Programs() if programs is None else programs
    named = dict.fromkeys(spec.board for spec in specs if spec.board is not None)
    built = {board: known.build(design, board, observer) for board in named}
    observer.stage(f"starting {', '.join(urls)}{purpose and f' {purpose}'}")
    with (
        launch(
            specs,
            built.__getitem__,
            boards=design.boards,
            recordings=recordings_of(design),
            gives_keys=authenticated and authenticates,
            icount=icount,
            faults=faults,
            record=record,
            check=check,
            on_event=observer.event,
            bus=bus,
            ids=ids,
            awaits_sleepers=math.isinf(patience),
        ) as devices,
        Fleet(devices, on_event=observer.event, patience=patience) as fleet,
    ):
        yield fleet
