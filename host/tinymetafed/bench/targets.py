"""The document's first table: what was to be reached, from where, and how far the measurements of this run are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .adaptation_cost import AdaptationCost
from .command_cost import CommandCost
from .downlink_cost import DownlinkCost
from .layer_grid import PASSES, Row
from .sample_cost import SampleCost
from .simulation_cost import SimulationCost
from .uplink_cost import UplinkCost


@dataclass(frozen=True)
class Target:
    """One row. ``before``: when the target was set. ``limit``: a bound that no code of this kind can pass. ``peer``: the figure
    of others, or who ours is compared with. A text is empty where there is none.
    """

    area: str
    what: str
    before: str
    now: str
    wanted: str
    limit: str = ""
    peer: str = ""


def of_kernels(grid: Sequence[Row]) -> list[Target]:
    """Depthwise convolutions in cycles (both estimates) per multiplication, a mean of three passes; pools in instructions."""
    rows = {row.title: row for row in grid}
    found = []
    for stride, before, wanted in ((1, "7.42 (input gradient)", "≤ 3.6"), (2, "", "≤ 5")):
        if (row := rows.get(f"depthwise_conv2d 16x16x8, kernel 3, stride {stride}")) is None:
            continue
        passes = [row.passes[name] for name in PASSES]
        low, high = (sum(each.cycles[i] for each in passes) / len(passes) for i in range(2))
        limit = sum(each.limit or 0.0 for each in passes) / len(passes)
        what = f"depthwise 3x3, stride {stride}: cycles per multiplication"
        peer = "TinyEngine 6.02 (input gradient)" if stride == 1 else ""
        found.append(Target("kernels", what, before, f"{low:.2f}–{high:.2f}", wanted, f"{limit:.1f} instructions", peer))
    if (pool := rows.get("max_pool 24x24x8")) is not None:
        ours, theirs = (sum(getattr(cell, kind) for cell in pool.passes.values()) for kind in ("instructions", "textbook"))
        found.append(
            Target(
                "kernels", "max_pool 2x2: times as fast as textbook", "0.6", f"{theirs / ours:.2f}", "≥ 1.1", peer="textbook"
            )
        )
    return found


def of_memory(
    adaptation: Mapping[str, AdaptationCost], samples: Sequence[SampleCost], arenas: Mapping[str, float]
) -> list[Target]:
    """Kept activations, the buffers of samples, and the planner. ``arenas``: each arena as a multiple of what is in use."""
    found = [
        Target(
            "kernels", f"adapting {net}: instructions, of whole steps", "1", f"{each.instructions / each.whole:.2f}", "≤ 0.5"
        )
        for net, each in adaptation.items()
    ]
    for each in samples:
        if each.dtype == "uint8" and each.shape == (64, 64, 3):
            now = f"{each.line_ram / each.values:.2f}"
            found.append(Target("memory", "64x64x3 image: bytes of buffers per value", "12.1", now, "≤ 1"))
    if arenas:
        worst = max(arenas, key=lambda name: arenas[name])
        found.append(Target("memory", f"largest arena of its need: {worst}", "1.18", f"{arenas[worst]:.2f}", "≤ 1.03", "1"))
    return found


def of_wire(uplink: Mapping[str, UplinkCost], downlink: DownlinkCost) -> list[Target]:
    """Coded updates beside their entropy, and downloads by difference."""
    found = []
    for net, cost in uplink.items():
        for each in cost.updates:
            what = f"update of {net}, P = {each.top_p:g}: bytes, of indices + adaptive entropy"
            now, before = f"{each.coded / each.limit:.2f}", f"{each.packed / each.limit:.2f} (packed)"
            found.append(Target("wire", what, before, now, "≤ 1.15", "1"))
    found += [
        Target("wire", f"{row.dtype} download by difference, every round: of all weights", "1", f"{row.share(1):.2f}", "≤ 0.3")
        for row in downlink.rows
        if row.coding == "packed"  # weights in few bits are as short already
    ]
    return found


def of_commands(cost: CommandCost) -> list[Target]:
    """Commands of the host, in seconds of processor time."""
    return [
        Target("host", "`tinymetafed --help`: seconds", "1.7", f"{cost.help_seconds:.2f}", "≤ 0.5"),
        Target("host", "`tinymetafed doctor`: seconds", "1.7", f"{cost.doctor_seconds:.2f}", "≤ 0.5"),
        Target("host", "firmware of which nothing changed: seconds", "5", f"{cost.unchanged_build_seconds:.2f}", "≤ 0.3"),
    ]


# Per network: the share of the highest rate when the target was set, and the wanted one.
_PEAK = {"sine": ("45–53", "≥ 62"), "bench-conv": ("68", "≥ 77")}


def of_simulation(simulation: Mapping[str, SimulationCost]) -> list[Target]:
    """The simulation of each network, on one thread."""
    found = []
    for net, each in simulation.items():
        if net in _PEAK:
            before, wanted = _PEAK[net]
            bound = "" if each.weights_percent is None else f"{100 * each.peak_percent / each.weights_percent:.0f}"
            what = f"{net}: % of the multiply-adds of one core without fused ones"
            found.append(Target("simulation", what, before, f"{each.peak_percent:.0f}", wanted, bound))
        single = each.single_us / each.one_thread_us
        found.append(Target("simulation", f"{net}: one client alone, of the time in a lane", "", f"{single:.2f}", "≤ 2"))
        for name, time in each.peers.items():
            ratio = f"{time / each.cpu_us:.1f}"
            found.append(Target("simulation", f"{net}: times as fast as {name}", "", ratio, "", peer=f"{time:.2f} µs a step"))
        if net == "sine":
            what = "sine: % of a client's round for the coding of its update"
            found.append(Target("simulation", what, "73", f"{each.coding_percent:.0f}", "≤ 30"))
        if each.many is not None:
            what = f"{net}: seconds of processor time per million clients"
            found.append(Target("simulation", what, "", f"{each.many.seconds_per_million:.0f}", "≤ 60"))
    return found
