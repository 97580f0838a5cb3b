"""Starts devices from their URLs: opens serial ports, and runs native or emulated boards as child processes."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.board_requirements import remedy
from tinymetafed_codegen.board.boards import INSTALLED, Catalogue
from tinymetafed_codegen.temporary import temporary_folder

from . import board_files
from .board_process import BoardProcess, command
from .device import Device, Stop
from .device_urls import DEFAULT_BOARDS, DeviceSpec
from .found_boards import found_boards
from .key_file import kept_beside
from .link.clock import SYSTEM_CLOCK, Clock
from .link.faults import FaultError, FaultPlan
from .link.link_errors import DeviceSilent, LaunchError, LinkError, PortError, WrongFirmware
from .link.record import Recorder
from .link.session import Session
from .ports import ProcessPort, Wrapping
from .roster import SCAN_SECONDS, in_short
from .serial_port import SerialPort, UsbBus
from .watchdog import Watchdog

ICOUNT = ("-icount", "shift=10")  # one instruction = 2^10 ns of virtual time, whatever the host's load
FILES_PER_PROCESS = 5  # open files of the host per process: pipes, diagnostics, the line, and a share of its own

# Kills the processes when the host is gone: standard input is a pipe from the host, which ends however the host ended.
# "stop" removes a process that was replaced, because another process may have its number by then.
_process_numbers = itertools.count(1)  # unique ids, also across several launches of this process


class EmulatorMissing(LaunchError):
    """The board's emulator is not installed."""


@contextmanager
def launch(
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    *,
    boards: Catalogue = INSTALLED,
    recordings: Callable[[DeviceSpec], Sequence[bytes]] | None = None,
    gives_keys: bool = False,
    icount: bool = False,
    options: Sequence[str] = (),
    faults: FaultPlan | None = None,
    record: Path | None = None,
    check: Callable[[Device], None] | None = None,
    start: float | None = None,
    ids: Iterator[int] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_event: Callable[[str], None] | None = None,
    bus: UsbBus | None = None,
    awaits_sleepers: bool = False,
) -> Iterator[list[Device]]:
    """Starts or opens all devices in parallel and waits for their Hello; always closes and stops them at the end.

    Args:
        specs: Parsed device URLs.
        firmware: Gives the program for a board's name; called once per board that runs as a process.
        boards: The known boards.
        recordings: Reads what the boards of a URL with ``replay`` replay, a file's content for each.
        gives_keys: Whether processes get a key at each start, for authenticated firmware.
        icount: Emulators count instructions exactly.
        options: Further options of the emulators.
        faults: Faults to inject between host and devices.
        record: File to record every byte in.
        check: Called for each device now and after every reconnection.
        start: Seconds that each may take to answer; None: the ``start_seconds`` of its board, for a process those of
            ``start_seconds``, which depend on the number of processes.
        ids: Gives the unique ids of processes without a store; None for 1, 2, …, with which a run finds its boards again.
        clock: Clock to measure time with.
        on_event: Is told what is waited for, and which boards are left out.
        bus: The USB ports of this machine; None to look for them.
        awaits_sleepers: Whether boards on ports may sleep, and are waited for until each has answered.

    Yields:
        The connected devices, in the order of ``specs``; without those that a broker has named and that do not answer, as long
        as others do.

    Raises:
        LaunchError: A device cannot be started. EmulatorMissing: its emulator is not installed.
        KeyFileError: The key of a process cannot be kept.
        LinkError: A device does not answer, or ``check`` refuses it.
    """
    if icount and any(spec.kind != "qemu" for spec in specs):
        raise LaunchError("exact instruction counts need QEMU; use qemu:N")
    if faults is not None and faults.reboots:
        for spec in specs:
            if spec.kind == "serial":
                raise FaultError(f"{spec.url}: fault 'reboot' restarts processes, not boards on ports; leave it out")
    specs = found_boards(specs, clock, on_event)
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(record, clock)) if record is not None else None
        words = (*(ICOUNT if icount else ()), *options)
        processes, flashes = _start_all(
            stack, specs, firmware, boards, recordings, words, _process_numbers if ids is None else ids, clock
        )
        numbered = {kind: itertools.count(1) for kind in DEFAULT_BOARDS}
        waiting = iter(zip(processes, flashes, strict=True))
        kinds = {spec.board for spec in specs if spec.board is not None}
        seconds = {name: start_seconds(boards.load(name), len(processes), processor_cores()) for name in kinds}
        ports: list[ProcessPort | SerialPort] = []
        found: set[ProcessPort | SerialPort] = set()
        bus = UsbBus() if bus is None else bus
        for spec in specs:
            for _ in range(spec.count):
                if spec.kind == "serial":
                    wrapping = Wrapping(faults, recorder, len(ports), clock)
                    ports.append(SerialPort(spec.url, wrapping, spec.declared, boards, bus, on_event))
                    if spec.found:
                        found.add(ports[-1])
                else:
                    name = f"{spec.kind}#{next(numbered[spec.kind])}"
                    assert spec.board is not None
                    wrapping = Wrapping(faults, recorder, len(ports), clock)
                    process, flash = next(waiting)
                    key = kept_beside(flash) if gives_keys else None
                    ports.append(ProcessPort(name, wrapping, process, seconds[spec.board], key))
        with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
            leaving = threading.Event()
            greet = partial(_greet, stack, start=start, clock=clock, stop=leaving.is_set)
            say = on_event or (lambda line: None)
            awaited = partial(_greet_sleeper, greet, clock, leaving.is_set, say)
            may_sleep = (
                {port for port in ports if isinstance(port, SerialPort) and port not in found} if awaits_sleepers else ()
            )
            futures = {port: pool.submit(awaited if port in may_sleep else greet, port) for port in ports}
            try:
                devices = list(_answering(futures, found, say))
            except BaseException:  # Ctrl-C too: nobody waits for the other devices' answers
                leaving.set()
                raise
        if check is not None:
            for device in devices:
                device.check(check)
        yield devices


def start_seconds(board: Board, processes: int, cores: int) -> float:
    """Seconds that one of several processes, which share the machine's cores, may take from its start to its first answer."""
    return board.start_seconds * max(1.0, processes / cores)


def processor_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require(specs: Sequence[DeviceSpec], boards: Catalogue = INSTALLED) -> None:
    """Checks that this machine can start the devices, before anything is built for them.

    Args:
        specs: Parsed device URLs.
        boards: The known boards.

    Raises:
        LaunchError: A device cannot be started. EmulatorMissing: its emulator is not installed.
    """
    wanted = [spec.board for spec in specs for _ in range(spec.count) if spec.board is not None]
    if not wanted:
        return
    if sys.platform == "win32" and (needing := next((spec for spec in specs if spec.board and not spec.tcp), None)):
        raise LaunchError(
            f"device '{needing.url}': needs pseudo-terminals, which Windows does not have; use native:N, whose boards serve "
            "TCP ports there, or a board on a port, or Linux, macOS or WSL"
        )
    for name in dict.fromkeys(wanted):
        board = boards.load(name)
        if trouble := board.cannot_build():
            raise LaunchError(f"no firmware can be built for board '{name}': {trouble}")
        if board.emulator is not None and shutil.which(board.emulator[0]) is None:
            needs = [need for need in board.requirements if not need.to_build]
            raise EmulatorMissing(
                f"{board.emulator[0]}: not installed, board '{name}' runs in it; {remedy(needs)}, or use native:{len(wanted)}"
            )
    if sys.platform == "win32":  # which has no such limit
        return
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if len(wanted) * FILES_PER_PROCESS > allowed:
        raise LaunchError(
            f"{len(wanted):,} devices need {len(wanted) * FILES_PER_PROCESS:,} open files, this shell allows {allowed:,}; "
            "use fewer devices, or raise the limit with `ulimit -n`"
        )


def _start_all(
    stack: ExitStack,
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    boards: Catalogue,
    recordings: Callable[[DeviceSpec], Sequence[bytes]] | None,
    options: Sequence[str],
    ids: Iterator[int],
    clock: Clock,
) -> tuple[list[BoardProcess], list[Path]]:
    """Starts every process, and names the file of its flash. ``stack`` stops them; if the host is killed, a watchdog does."""
    wanted = [(spec.board, spec, i) for spec in specs for i in range(spec.count) if spec.board is not None]
    if not wanted:
        return [], []
    require(specs, boards)
    replayed = [rows for spec in specs if spec.board is not None for rows in _replayed(spec, recordings)]
    known = {name: boards.load(name) for name, _, _ in wanted}
    programs = {name: firmware(name) for name in known}
    watchdog = Watchdog()
    processes: list[BoardProcess] = []
    flashes: list[Path] = []

    def stop_all() -> None:
        for process in processes:
            process.popen.terminate()
        watchdog.stop()  # before other processes can get their numbers
        for process in processes:
            process.stop()

    lines = stack.enter_context(temporary_folder())
    stack.callback(stop_all)
    for (name, spec, i), rows in zip(wanted, replayed, strict=True):
        number = next(ids)
        unique_id = f"{number:016x}"
        kept = None if spec.store is None else board_files.kept_in(spec.store) / f"{name}-{i + 1}.flash"
        if kept is not None:
            board_files.lock(kept, stack)
            unique_id = board_files.kept_id(kept, number)
        flash = lines / f"{unique_id}.flash"
        storage = kept or flash
        if (facts := known[name].storage) is not None:
            board_files.fill(storage, facts.pages * facts.page_bytes)
        files = {board_files.STORAGE_VARIABLE: str(storage), board_files.REPLAY_VARIABLE: ""}
        if rows is not None:
            recording = lines / f"{flash.name}{board_files.REPLAY_SUFFIX}"
            recording.write_bytes(rows)
            files[board_files.REPLAY_VARIABLE] = str(recording)
            if storage != flash:  # an emulated board finds its recording beside its flash
                flash.symlink_to(storage)
                storage = flash
        flashes.append(storage)
        words = command(known[name], programs[name], unique_id, lines / unique_id, storage, tcp=spec.tcp)
        processes.append(BoardProcess([*words, *options], files, watchdog.tell, clock))
    return processes, flashes


def _replayed(spec: DeviceSpec, recordings: Callable[[DeviceSpec], Sequence[bytes]] | None) -> Sequence[bytes | None]:
    """What each board of a URL replays; None for one that replays nothing. Raises LaunchError."""
    if spec.replay is None:
        return [None] * spec.count
    if recordings is None:
        raise LaunchError(f"device '{spec.url}': this command starts boards without sensors; leave replay= out")
    return recordings(spec)


def _answering(
    futures: Mapping[ProcessPort | SerialPort, Future[Device]],
    found: Collection[ProcessPort | SerialPort],
    on_event: Callable[[str], None],
) -> Iterator[Device]:
    """The devices. Those that are only ``found`` may be gone; raises their error if no other one is there."""
    gone: list[LinkError] = []
    for port, future in futures.items():
        try:
            yield future.result()
        except WrongFirmware:
            raise
        except LinkError as error:
            if port not in found:
                raise
            gone.append(error)
    if len(gone) == len(futures) and gone:
        raise gone[0]
    for why in gone:
        on_event(f"{in_short(why)}; the run continues without it, as other boards answer")


def _greet_sleeper(
    greet: Callable[[ProcessPort | SerialPort], Device],
    clock: Clock,
    stop: Stop,
    on_event: Callable[[str], None],
    port: ProcessPort | SerialPort,
) -> Device:
    """As ``_greet``, but tries again as long as nothing answers."""
    said = False
    while True:
        try:
            return greet(port)
        except (PortError, DeviceSilent) as error:
            if stop():
                raise
            if not said:
                on_event(f"{in_short(error)}; waiting until {port.name} wakes, because every board must be known before a run")
                said = True
            clock.sleep(SCAN_SECONDS)


def _greet(stack: ExitStack, port: ProcessPort | SerialPort, start: float | None, clock: Clock, stop: Stop) -> Device:
    """Opens the line of one device and asks for its Hello; ``stop`` ends the wait for it."""
    until = clock.monotonic() + (port.start if start is None else start)
    try:
        transport = port.open(until)
        try:
            session = Session(transport, name=port.name, retries=port.retries, clock=clock)
            session.watch = lambda: PortError(port.name, "is not waited for any longer") if stop() else None
            hello = session.hello(max(0.0, until - clock.monotonic()))
            session.watch = None
            port.confirm(hello)
        except BaseException:
            transport.close()
            raise
    except LinkError as error:
        better = port.explain(error)
        raise better from (error if better is not error else None)
    device = Device(port.name, session, hello, port)
    stack.callback(device.close)
    return device
