"""Plans a federation on paper, and measures what the plan starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.board import boards as known_boards
from tinymetafed_codegen.errors import UsageError

from ..experiments.plan import (
    BACKHAULS,
    LINES,
    Fleet,
    committed,
    counted,
    measure,
    parsed,
    planned,
    read,
    work_of,
)
from ..experiments.plan import FederationPlan as FederationPlan
from ..experiments.plan import FleetMeasurement as FleetMeasurement
from ..experiments.plan import Rates as Rates
from .loaded_experiment import Experiment, data_path
from .progress import ProgressOption, watching

GIGABYTE = 10**9


def plan(
    experiment: Experiment,
    boards: Sequence[int] = (100,),
    *,
    gateways: int = 0,
    boards_per_gateway: int | None = None,
    clients: int | None = None,
    form: str | None = None,
    board: str = "nano33ble",
    line: str = "serial",
    backhaul: str = "lan",
    server_line: str = "gigabit",
    memory: float = 16.0,
    measured: str | Path | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> list[FederationPlan]:
    """Plans federations: time, bytes, energy and processors of a round, and what limits it first as boards are added.

    Bytes and messages are counted in some simulated rounds, processor times of host and server were measured. Training and
    energy of boards are estimates, as in ``estimate_day``.

    Args:
        experiment: An experiment from ``load``.
        boards: Numbers of boards, one for each plan.
        gateways: Number of machines with boards; 0: all boards are at the server.
        boards_per_gateway: In place of ``gateways``: a gateway for every so many boards.
        clients: Number of clients that a round trains; None for one on every board.
        form: What gateways send: "forward", every update; "pre-summed", their sum; None for the experiment's
            ``strategy.gateways``.
        board: Name of the real board whose training time and energy are estimated.
        line: Line of each board: "serial", "usb", "wifi", "ethernet", or "RATE,LATENCY" in bytes per second and seconds.
        backhaul: Line of each gateway to the server: "lan", "gigabit", "internet", or "RATE,LATENCY".
        server_line: The server's own line, which its gateways share; as ``backhaul``.
        memory: The server's memory in GB.
        measured: A file that ``bench fleet --json`` wrote on the machine that will be host and server; None for the figures of
            the project's machine.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        A plan for each number of boards.

    Raises:
        UsageError: A number, line, board or file is not possible; the text names it.
        Error: SpecError, BoardError, DataError, BuildError.
    """
    if boards_per_gateway is not None and (gateways or boards_per_gateway < 1):
        raise UsageError(f"--boards-per-gateway {boards_per_gateway}: expected 1 or more, and without --gateways")
    if not boards:
        raise UsageError("--boards: expected a number of boards, or some with commas between them, such as 10,100")
    if not 0 < memory < math.inf:
        raise UsageError(f"--memory {memory:g}: expected the server's gigabytes, more than 0")
    fleets = []
    for count in boards:
        hosts = gateways if boards_per_gateway is None else math.ceil(count / boards_per_gateway)
        fleet = Fleet(count, hosts, count if clients is None else clients, form or experiment.spec.strategy.gateways)
        fleet.require()
        fleets.append(fleet)
    figures = committed() if measured is None else read(Path(measured))
    known = known_boards.around(experiment.source).load(board)
    chosen = parsed(line, LINES, "--line", known)
    behind, own = parsed(backhaul, BACKHAULS, "--backhaul"), parsed(server_line, BACKHAULS, "--server-line")
    with watching(progress) as observer:
        observer.stage("counting bytes of simulated rounds")
        device, strategy = counted(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    rates = Rates(
        device=device,
        work=work_of(strategy, known),
        line=chosen,
        backhaul=behind,
        server_line=own,
        host=figures.host_on(chosen),
        server=figures.server,
        measured_on=figures.basis,
        takes_differences=strategy.spec.takes_differences,
    )
    return [planned(fleet, rates, experiment.spec.run.rounds, memory * GIGABYTE) for fleet in fleets]


def bench_fleet(
    boards: Sequence[int] = (4, 16, 64, 100),
    *,
    kind: str = "qemu",
    line: str | None = None,
    calibrate: int = 24,
    rounds: int = 10,
    command: str = "tinymetafed.bench_fleet(…)",
    progress: ProgressOption = True,
) -> FleetMeasurement:
    """Measures fleets on this machine and compares them with the formulas of ``plan``; measures what host and server take.

    Args:
        boards: Sizes of the fleets; each board trains one client of examples/sine.toml in every round.
        kind: "qemu" for emulated boards, "native" for processes.
        line: Line whose speed every board is slowed down to, as for ``plan``; None for lines as fast as this machine.
        calibrate: Size of the fleet from whose measured times the others are predicted.
        rounds: Number of rounds to measure of each fleet.
        command: The command that the figures name as theirs.
        progress: As in ``simulate``.

    Returns:
        The figures.

    Raises:
        UsageError: A number or line is not possible, or this system does not tell processor times of other processes.
        Error: BuildError, LaunchError, LinkError.
    """
    slowed = None if line is None else parsed(line, LINES, "--line")
    with watching(progress) as observer:
        return measure(boards, kind, slowed, calibrate, rounds, command, observer)
