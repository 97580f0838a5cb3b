"""The commands that plan a federation on paper and measure what the plan starts from."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from .options import DataOption, JsonOption, SetOption, TrustOption
from .output import results

LINE_HELP = "serial, usb, wifi, ethernet, or RATE,LATENCY in bytes per second and seconds"
BACKHAUL_HELP = "lan, gigabit, internet, or RATE,LATENCY in bytes per second and seconds"


def plan(
    source: Annotated[Path, typer.Argument(help="Experiment file, or the folder of a run, whose experiment is planned.")],
    boards: Annotated[
        str, typer.Option(help="Number of boards, or several with commas between them: a column for each.")
    ] = "100",
    gateways: Annotated[
        int, typer.Option(help="Machines with boards, such as Raspberry Pis; 0: all boards are at the server.")
    ] = 0,
    boards_per_gateway: Annotated[
        int | None, typer.Option(help="In place of --gateways: a gateway for every so many boards.", show_default="none")
    ] = None,
    clients: Annotated[int | None, typer.Option(help="Clients that a round trains.", show_default="one on every board")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            help="What gateways send to the server: forward (every update) or pre-summed (their sum).",
            show_default="strategy.gateways of the experiment",
        ),
    ] = None,
    board: Annotated[str, typer.Option(help="The real board whose training time and energy are estimated.")] = "nano33ble",
    line: Annotated[str, typer.Option(help=f"Line of each board: {LINE_HELP}.")] = "serial",
    backhaul: Annotated[str, typer.Option(help=f"Line of each gateway to the server: {BACKHAUL_HELP}.")] = "lan",
    server_line: Annotated[
        str, typer.Option(help="The server's own line, which all gateways share; takes what --backhaul takes.")
    ] = "gigabit",
    memory: Annotated[float, typer.Option(help="The server's memory in GB.")] = 16.0,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Plan with your machine as host and server: the FILE that `tinymetafed bench fleet --json > FILE` wrote.",
            show_default="those of the project's machine",
        ),
    ] = None,
    data: DataOption = None,
    set_: SetOption = None,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Plan a federation on paper: time, bytes, energy and processors of a round, and what gives way first.

    Bytes are counted in simulated rounds, the processor times of host and server were measured, and training and energy of
    boards are estimates. A laptop with some boards, then more and more boards behind Raspberry Pis:

    tinymetafed plan examples/sine.toml --boards 8

    tinymetafed plan examples/sine.toml --boards 100,1000,10000 --boards-per-gateway 100 --form pre-summed --backhaul internet
    """
    if source.is_dir():
        if set_:
            raise tmf.UsageError(f"--set {set_[0]}: {source} is a run, whose experiment is fixed; give its experiment file")
        experiment = tmf.open_run(source, trust=trust).experiment
    else:
        experiment = tmf.load(source, set_ or ())
    plans = tmf.plan(
        experiment,
        _counts(boards),
        gateways=gateways,
        boards_per_gateway=boards_per_gateway,
        clients=clients,
        form=form,
        board=board,
        line=line,
        backhaul=backhaul,
        server_line=server_line,
        memory=memory,
        measured=measured,
        data=data,
    )
    if json_:
        print(json.dumps([asdict(each) for each in plans]))
        return
    rates = plans[0].rates
    title = f"{source} on {rates.work.title}, line {rates.line.name}: a round, planned"
    table = Table(title=title, title_justify="left")
    table.add_column("boards")
    for each in plans:
        table.add_column(f"{each.fleet.boards:,}", justify="right")
    for name, cells in _rows(plans):
        table.add_row(name, *cells)
    console = results()
    console.print(table)
    for each in plans:
        limits = each.limits if len(plans) == 1 else each.limits[:1]
        first = "" if len(plans) == 1 else f"{each.fleet.boards:,} boards, more of them at as many gateways: "
        for limit in limits:
            console.print(f"{first}From {limit.boards:,} boards on, {limit.what}: {limit.remedy}.", soft_wrap=True)
    behind = (rates.backhaul, rates.server_line) if plans[-1].fleet.gateways else ()
    for used in (rates.line, *behind):
        kind = "Assumed" if used.assumed else "Line"
        rate = f"{used.bytes_per_second:,.0f} bytes/s, {1000 * used.turn_around_seconds:g} ms per answer"
        console.print(f"{kind}: {used.name}, {rate}; {used.source}.", soft_wrap=True)
    console.print(f"Processors: measured on {rates.measured_on}.", soft_wrap=True)
    console.print(f"Left out: {plans[0].left_out}.", soft_wrap=True)


def fleet(
    boards: Annotated[str, typer.Option(help="Sizes of the fleets, with commas between them.")] = "4,16,64,100",
    kind: Annotated[str, typer.Option(help="qemu: emulated boards; native: processes.")] = "qemu",
    line: Annotated[
        str | None, typer.Option(help=f"Slow every board's line down: {LINE_HELP}.", show_default="as fast as this machine")
    ] = None,
    calibrate: Annotated[int, typer.Option(help="Size of the fleet from which the times of the others are predicted.")] = 24,
    rounds: Annotated[int, typer.Option(help="Rounds to measure of each fleet.")] = 10,
    json_: JsonOption = False,
) -> None:
    """Measure fleets of boards on this machine, and compare with what the formulas of `tinymetafed plan` predict.

    Each board trains a client of examples/sine.toml in every round. The file that --json writes is for `plan --measured`. Other
    work on the machine makes the times longer; the processor times hardly change.

    tinymetafed bench fleet --boards 4,16,64,100 --json > fleet.json

    tinymetafed bench fleet --kind native --line serial
    """
    found = tmf.bench_fleet(_counts(boards), kind=kind, line=line, calibrate=calibrate, rounds=rounds, command=_command())
    if json_:
        print(json.dumps(asdict(found)))
        return
    slowed = "" if found.line is None else f", line {found.line.name}"
    table = Table(title=f"A round of {found.kind} boards{slowed}, {found.cores} cores", title_justify="left")
    for heading in ("boards", "measured, ms", "predicted, ms", "deviation", "host, ms", "board, ms", "load"):
        table.add_column(heading, justify="right")
    for each in found.fleets:
        times = (f"{1000 * each.seconds:,.1f}", f"{1000 * each.predicted:,.1f}", f"{each.deviation:+.1%}")
        shares = (f"{1000 * each.host:.2f}", f"{1000 * each.board:.2f}", f"{each.load:.1f}")
        table.add_row(f"{each.boards:,}", *times, *shares)
    console = results()
    console.print(table)
    fast, slow, server = found.host, found.host_at_serial, found.server
    for text in (
        f"Predicted from {found.calibrated_on.boards} boards; host and board: processor time by client and round.",
        f"Host: {1e3 * fast.per_client:.2f} ms by client and {1e6 * fast.per_request:.0f} µs by request; at 115,200 baud "
        f"{1e3 * slow.per_client:.2f} ms and {1e6 * slow.per_request:.0f} µs.",
        f"Server: {1e6 * server.per_update:.0f} µs by update and {1e9 * server.per_entry:.0f} ns by entry, which takes "
        f"{server.memory_per_entry:.1f} bytes of memory.",
    ):
        console.print(f"  {text}", soft_wrap=True)


def _counts(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise tmf.UsageError(f"--boards {text}: expected whole numbers with commas between them, such as 4,16") from None


def _command() -> str:
    return shlex.join(["tinymetafed", *(word for word in sys.argv[1:] if word != "--json")])


def _rows(plans: list[tmf.FederationPlan]) -> list[tuple[str, list[str]]]:
    """The rows of the table."""
    device = plans[0].rates.device
    streamed = _pair((device.samples_down, device.samples_up))
    return [
        ("gateways", [f"{each.fleet.gateways:,}" for each in plans]),
        ("clients in a round", [f"{each.fleet.clients:,}" for each in plans]),
        ("time", [_between(each.seconds, "s") for each in plans]),
        ("takes longest", [each.bound for each in plans]),
        ("bytes of a board, down, up", [_pair(each.board_bytes) for each in plans]),
        *([("of these, samples that the host streams", [streamed] * len(plans))] if device.samples else []),
        ("bytes of a gateway, down, up", [_pair(each.gateway_bytes) if each.fleet.gateways else "" for each in plans]),
        ("bytes of the server, down, up", [_pair(each.server_bytes) for each in plans]),
        ("energy of a board", [_between(each.joules, "J") for each in plans]),
        ("energy of all boards", [_between(each.joules_of_all, "J") for each in plans]),
        ("processor of a gateway", [f"{each.gateway_processor:.3g} s" if each.fleet.gateways else "" for each in plans]),
        ("processor of the server", [f"{each.server_processor:.3g} s" for each in plans]),
        ("memory of the server", [f"{each.server_memory / 1e6:,.3g} MB" for each in plans]),
        (f"time of {plans[0].rounds:,} rounds", [_between(_hours(each.run_seconds), "h") for each in plans]),
    ]


def _hours(seconds: tuple[float, float]) -> tuple[float, float]:
    return seconds[0] / 3600, seconds[1] / 3600


def _pair(size: tuple[float, float]) -> str:
    return f"{size[0]:,.0f}, {size[1]:,.0f}"


def _between(pair: tuple[float, float], unit: str) -> str:
    low, high = (f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in pair)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
