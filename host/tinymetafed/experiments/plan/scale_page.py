"""Fills the tables of docs/scale.md from measured figures: `python -m tinymetafed.experiments.plan.scale_page`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards as known_boards
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.messages.protocol_document import filled

from .federation_plan import FederationPlan, Fleet, Rates, planned
from .fleet_bench import FleetMeasurement, committed, read
from .fleet_round import work_of
from .plan_line import BACKHAULS, LINES, parsed
from .round_count import counted

PAGE, AT_SERIAL = "docs/scale.md", "docs/scale-serial.json"
BOARD, PER_GATEWAY, MEMORY = "nano33ble", 100, 16e9
ALONE = (10, 100, 1000)
BEHIND = (100, 1000, 10_000, 100_000, 1_000_000)
SAMPLED = 1024


def tables() -> dict[str, str]:
    """The text of each table by its name."""
    figures = committed()
    experiment = spec.load(find("examples") / "sine.toml")
    device, strategy = counted(experiment, "examples/sine.toml", None)
    board = known_boards.load(BOARD)
    line = parsed("serial", LINES, "--line", board)
    rates = Rates(
        device=device,
        work=work_of(strategy, board),
        line=line,
        backhaul=BACKHAULS["lan"],
        server_line=BACKHAULS["gigabit"],
        host=figures.host_on(line),
        server=figures.server,
        measured_on=figures.basis,
    )

    def plans(sizes: Sequence[int], form: str, *, behind: bool, clients: int | None = None) -> list[FederationPlan]:
        found = []
        for size in sizes:
            gateways = math.ceil(size / PER_GATEWAY) if behind else 0
            fleet = Fleet(size, gateways, size if clients is None else min(size, clients), form)
            found.append(planned(fleet, rates, experiment.run.rounds, MEMORY))
        return found

    return {
        "emulated_fleets": _fleets(figures),
        "paced_fleets": _fleets(read(find(AT_SERIAL))),
        "costs": _costs(figures),
        "alone": _plans(plans(ALONE, "forward", behind=False)),
        "forward": _plans(plans(BEHIND, "forward", behind=True)),
        "pre_summed": _plans(plans(BEHIND, "pre-summed", behind=True)),
        "sampled": _plans(plans(BEHIND, "forward", behind=True, clients=SAMPLED)),
        "limits_alone": _limits(plans((10,), "forward", behind=False)[0]),
        "limits": _limits(plans((100,), "forward", behind=True)[0]),
    }


def _fleets(found: FleetMeasurement) -> str:
    if not found.fleets:
        return "Not measured yet on a machine without other work.\n"
    heads = ("boards", "measured, ms", "predicted, ms", "deviation", "host's processor, ms", "board's processor, ms", "load")
    rows = [
        (
            f"{each.boards:,}",
            f"{1000 * each.seconds:,.1f}",
            f"{1000 * each.predicted:,.1f}",
            f"{each.deviation:+.1%}",
            f"{1000 * each.host:.2f}",
            f"{1000 * each.board:.2f}",
            f"{each.load:.1f}",
        )
        for each in found.fleets
    ]
    based = f"Predicted from {found.calibrated_on.boards} boards by the formula times {found.factor:.3f}."
    where = f"{found.machine}, {found.cores} cores, {found.date}, load average before {found.load:.1f}"
    return f"`{found.command}`, {where}. {based}\n\n{_table(heads, rows)}"


def _costs(found: FleetMeasurement) -> str:
    server = found.server
    rows = [
        ("host, by client and round", f"{1e3 * found.host.per_client:.2f} ms"),
        ("host, by request", f"{1e6 * found.host.per_request:.0f} µs"),
        ("host at 115,200 baud, by client and round", f"{1e3 * found.host_at_serial.per_client:.2f} ms"),
        ("host at 115,200 baud, by request", f"{1e6 * found.host_at_serial.per_request:.0f} µs"),
        ("server, by update", f"{1e6 * server.per_update:.0f} µs"),
        ("server, by entry of an update", f"{1e9 * server.per_entry:.0f} ns"),
        ("server's memory, by entry of an update", f"{server.memory_per_entry:.1f} bytes"),
        ("gateway, packing a byte", f"{1e9 * server.packing:.1f} ns"),
        ("server, unpacking a byte", f"{1e9 * server.unpacking:.1f} ns"),
    ]
    return f"`{found.command}`, {found.machine}, {found.date}.\n\n{_table(('processor time', 'measured'), rows)}"


def _plans(found: Sequence[FederationPlan]) -> str:
    heads = (
        "boards", "gateways", "clients", "time of a round, s", "takes longest", "server's line, MB",
        "server's processor, s", "server's memory, MB", "energy of all boards, J",
    )  # fmt: skip
    rows = [
        (
            f"{each.fleet.boards:,}",
            f"{each.fleet.gateways:,}",
            f"{each.fleet.clients:,}",
            _between(each.seconds),
            each.bound,
            f"{sum(each.server_bytes) / 1e6:,.3g}" if sum(each.server_bytes) < 1e9 else f"{sum(each.server_bytes) / 1e6:,.0f}",
            f"{each.server_processor:.3g}",
            f"{each.server_memory / 1e6:,.3g}" if each.server_memory < 1e9 else f"{each.server_memory / 1e6:,.0f}",
            _between(each.joules_of_all),
        )
        for each in found
    ]
    return _table(heads, rows)


def _limits(found: FederationPlan) -> str:
    rows = [(f"{limit.boards:,}", limit.what, limit.remedy) for limit in found.limits]
    return _table(("from so many boards", "what gives way", "what to do"), rows, left=(1, 2))


def _between(pair: tuple[float, float]) -> str:
    low, high = (f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in pair)
    return low if low == high else f"{low} to {high}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    words = [place for place, head in enumerate(heads) if head in ("takes longest", "processor time")]
    rules = ["---" if place in (*left, *words) else "---:" for place, _ in enumerate(heads)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows)) + "\n"


def page() -> tuple[Path, str]:
    """The page's file, and its text with its tables made again."""
    file = find(PAGE)
    return file, filled(file.read_text(encoding="utf-8"), tables())


if __name__ == "__main__":
    write_if_changed(*page())
