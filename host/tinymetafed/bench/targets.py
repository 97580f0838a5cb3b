"""The document's first table: what was to be reached, from where, and how far the measurements of this run are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .activation_cost import ActivationCosts
from .adaptation_cost import AdaptationCost
from .command_cost import CommandCost
from .downlink_cost import DownlinkCost
from .layer_grid import PASSES, Row
from .run_cost import CHOSEN, RunCost
from .sample_cost import SampleCost
from .seed_cost import SeedCost
from .simulation_cost import SimulationCost
from .suite_cost import SuiteCost
from .uplink_cost import UplinkCost

NOT_MEASURED = "not measured"
RATIO = 1.25  # of a limit that a pass of a layer may reach


@dataclass(frozen=True)
class Target:
    """One row. ``before``: when the target was set. ``limit``: a bound that no code of this kind can pass. ``peer``: the figure
    of others, or who ours is compared with. ``note``: what was measured of a target that is not reached, or how the figure is
    made. A text is empty where there is none.
    """

    area: str
    what: str
    before: str
    now: str
    wanted: str
    limit: str = ""
    peer: str = ""
    note: str = ""


def _unless(reached: bool, note: str) -> str:
    """The note of a target that is not reached."""
    return "" if reached else note


# Before, by stride, in instructions; wanted in cycles.
_DEPTHWISE = {1: ("5.8 instructions", 3.6), 2: ("7.3 instructions", 5.0)}
_TILES = "small maps have more borders; [why](#layer-by-layer)"
# Passes of a kind of layers: what the title has, which passes, instructions by multiplication before.
_GROUPS = (
    ("one input channel, 3x3", ("conv2d 16x16x1,", "kernel 3"), ("forward",), "4.2"),
    ("one filter, 3x3", ("conv2d 8x8x8, filters 1,", "kernel 3"), ("forward",), "5.2"),
    ("1x1 of few or odd channels", ("conv2d", "kernel 1"), PASSES, "4.4"),
    ("dense", ("dense",), ("update",), "4.5–4.9"),
)


def of_kernels(grid: Sequence[Row], code_bytes: Mapping[str, int]) -> list[Target]:
    """Single layers: cycles (both estimates) and instructions per multiplication, means of three passes; pools; flash."""
    rows = {row.title: row for row in grid}
    found = []
    for stride, (before, wanted) in _DEPTHWISE.items():
        of = [row for row in grid if row.title.startswith("depthwise") and f"kernel 3, stride {stride}" in row.title]
        if not of:
            continue
        usual = rows.get(f"depthwise_conv2d 16x16x8, kernel 3, stride {stride}", of[0])
        for title in dict.fromkeys((usual.title, max(of, key=lambda row: row.cycles[1]).title)):
            found.append(_depthwise(rows[title], before, wanted, is_usual=title == usual.title))
    if (row := rows.get("depthwise_conv2d 16x16x8, kernel 3, stride 1")) is not None:
        low, high = row.passes["gradient"].cycles
        what = "depthwise 3x3, stride 1, input gradient: cycles per multiplication"
        found.append(Target("kernels", what, "7.42", f"{low:.2f}–{high:.2f}", "< 6.02", peer="TinyEngine 6.02"))
    if sizes := {title: size for title, size in code_bytes.items() if title in rows and "kernel 3" in title}:
        of_depthwise = {title: size for title, size in sizes.items() if title.startswith("depthwise")}
        title = max(of_depthwise, key=lambda title: of_depthwise[title])
        what = f"{title}: bytes of flash, all passes, the largest of its kind in the grid"
        note = _unless(sizes[title] <= 3_072, _TILES)
        found.append(Target("kernels", what, "", f"{sizes[title]:,} (estimate)", "≤ 3,072", note=note))
    if (pool := rows.get("max_pool 24x24x8")) is not None:
        what = "max_pool 2x2: times as fast as textbook"
        found.append(Target("kernels", what, "0.6", f"{pool.faster:.2f}", "≥ 1.1", peer="textbook"))
    plain = [row for row in grid if all(cell.ratio is None for cell in row.passes.values())]
    if len(plain) > 1:
        slowest = min(plain, key=lambda row: row.faster)
        what = f"{slowest.title}, the worst of {len(plain)} layers without weights: times as fast as textbook"
        found.append(Target("kernels", what, "", f"{slowest.faster:.2f}", "≥ 1.1", peer="textbook"))
    for name, parts, passes, before in _GROUPS:
        cells = {
            f"{row.title}, {each}": row.passes[each].ratio or 0.0
            for row in grid
            if all(part in f"{row.title}," for part in parts)
            for each in passes
            if each in row.passes
        }
        if cells:
            worst = max(cells, key=lambda cell: cells[cell])
            note = _unless(cells[worst] <= RATIO, f"{worst}; [why](#layer-by-layer)")
            what = f"{name}: instructions of the worst layer, of its limit"
            found.append(Target("kernels", what, f"{before} instructions", f"{cells[worst]:.2f}", f"≤ {RATIO}", "1", "", note))
    ratios = [cell.ratio for row in grid for cell in row.passes.values() if cell.ratio is not None]
    above = sum(ratio > RATIO for ratio in ratios)
    what = f"passes of {len(grid)} layers above {RATIO} of their limit"
    note = _unless(above == 0, "[each of them, and why](#layer-by-layer)")
    found.append(Target("kernels", what, "", f"{above} of {len(ratios)}", "0", note=note))
    return found


def _depthwise(row: Row, before: str, wanted: float, *, is_usual: bool) -> Target:
    low, high = row.cycles
    limit = sum(row.passes[name].limit or 0.0 for name in PASSES) / len(PASSES)
    what = f"{row.title}{'' if is_usual else ', the slowest of its kind'}: cycles per multiplication"
    note = _unless(low <= wanted, _TILES)
    return Target(
        "kernels",
        what,
        before if is_usual else "",
        f"{low:.2f}–{high:.2f}",
        f"≤ {wanted:g}",
        f"{limit:.1f} instructions",
        "",
        note,
    )


# Instructions of an adaptation's 320 local and 80 full training steps before boards kept activations: counted on the board
# `mps2` with the code of commit c6c89272 (2026-11-29, 03:09), from the same weights and samples to the same weights as today.
_ADAPTING = {"bench-conv": 163_172_560, "omniglot": 212_156_400}


def _adapting(net: str, cost: AdaptationCost, steps: Mapping[str, int]) -> list[Target]:
    """The instructions of an adaptation: beside those of then, where they were counted, and beside whole steps of today."""
    share, limit, least, note = cost.instructions / cost.whole, "", "", ""
    if {"full", "local"} <= {*cost.steps, *steps}:
        full = cost.steps["full"] * steps["full"]
        bound = full + cost.samples * steps["local"]
        limit, least = f"{bound:,}", f"{bound / cost.whole:.2f}"
        note = (
            f"full steps, in which every layer changes, are {full / cost.whole:.2f}; the limit adds one local pass over the "
            f"samples; {cost.steps['local'] - cost.samples} further steps of the last layer take "
            f"{(cost.instructions - bound) / cost.whole:.2f}"
        )
    ratio = Target(
        "kernels",
        f"adapting {net}: instructions, of whole steps with today's kernels",
        "1",
        f"{share:.2f}",
        "≤ 0.5",
        least,
        note=_unless(share <= 0.5, note),
    )
    if (before := _ADAPTING.get(net)) is None:
        return [ratio]
    total = Target(
        "kernels",
        f"adapting {net}: instructions of {sum(cost.steps.values())} training steps",
        f"{before:,}",
        f"{cost.instructions:,}",
        f"≤ {before // 2:,}",
        limit,
        note=f"{cost.instructions / before:.2f} of before",
    )
    return [total, ratio]


def of_adaptation(costs: Mapping[str, AdaptationCost], steps: Mapping[str, Mapping[str, int]]) -> list[Target]:
    """Kept activations. ``steps``: instructions of a training step by network and variant."""
    found = []
    for net, cost in costs.items():
        found += _adapting(net, cost, steps.get(net, {}))
        backbone = cost.passes.get("local", 0)
        before = cost.steps.get("local", 0) // cost.samples
        what = f"adapting {net}: forward passes of the unchanged layers by sample"
        found.append(Target("kernels", what, f"{before}", f"{backbone}", "1", "1"))
        note = _unless(
            cost.messages <= cost.samples,
            f"the samples do not fit into two thirds of the free RAM of {cost.board}: full steps, which change all layers, get "
            "them in every pass",
        )
        what = f"adapting {net}: messages for {cost.samples} streamed samples"
        found.append(Target("wire", what, f"{sum(cost.steps.values())}", f"{cost.messages}", f"{cost.samples}", "", "", note))
    return found


def of_memory(samples: Sequence[SampleCost], arenas: Mapping[str, float]) -> list[Target]:
    """The buffers of samples, and the planner. ``arenas``: each arena as a multiple of what is in use."""
    found = []
    for each in samples:
        if each.dtype == "uint8" and each.shape == (64, 64, 3):
            now = f"{each.line_ram / each.values:.2f}"
            note = "buffers of the line; the input itself takes a byte per value where the first layer reads bytes"
            found.append(Target("memory", "64x64x3 image: bytes of buffers per value", "12.1", now, "≤ 1", note=note))
        if each.dtype == "float32" and each.shape == (96, 96, 3):
            what = "96x96x3 image as float32: bytes of the largest message's window and buffers"
            found.append(Target("memory", what, "refused", f"{each.line_ram:,}", "no limit"))
    if arenas:
        worst = max(arenas, key=lambda name: arenas[name])
        what = f"largest arena of its need, of {len(arenas)} networks: {worst}"
        found.append(Target("memory", what, "1.18", f"{arenas[worst]:.2f}", "≤ 1.03", "1"))
    return found


def of_activations(costs: Mapping[str, ActivationCosts]) -> list[Target]:
    """What less memory for activations saves, and its price."""
    found = []
    for net, of in costs.items():
        fastest, *others = of.costs
        for each in others:
            if (each.price.memory, each.price.activations) not in (("least", "f32"), ("fastest", "f16")):
                continue
            key = 'board.memory = "least"' if each.price.memory == "least" else 'model.activations = "f16"'
            share = each.price.arena_bytes / fastest.price.arena_bytes
            step = max(each.instructions, key=lambda variant: each.instructions[variant])
            more = each.instructions[step] / fastest.instructions[step]
            weights = "the same weights" if each.price.memory == "least" else "other weights"
            note = f"{more:.2f} times the instructions of a step, {weights}; the least that these tensors take"
            found.append(Target("memory", f"{net}, `{key}`: arena, of the fastest", "1", f"{share:.2f}", "", note=note))
    return found


def of_flash(slowdown: Mapping[str, tuple[float, float]]) -> list[Target]:
    """Wait states by board: time of a program in flash as a multiple of that without them, (low, high)."""
    return [
        Target(
            "kernels", f"{board}: time of a program in flash, of that without wait states", "cache off",
            f"{low:.2f}–{high:.2f}", "a range", note="instruction cache on; estimated, by others' measurements",
        )
        for board, (low, high) in slowdown.items()
    ]  # fmt: skip


def of_wire(uplink: Mapping[str, UplinkCost], downlink: DownlinkCost, lacking: Sequence[str] = ()) -> list[Target]:
    """Coded updates beside their entropy, and downloads by difference. ``lacking``: networks whose data were not there."""
    note = "its data are needed: `make bench DATA=FOLDER`"
    found = [
        Target("wire", f"update of {net}: bytes, of indices + adaptive entropy", "", NOT_MEASURED, "≤ 1.15", note=note)
        for net in lacking
    ]
    for net, cost in uplink.items():
        for each in cost.updates:
            what = f"update of {net}, P = {each.top_p:g}: bytes, of indices + adaptive entropy"
            now, before = f"{each.coded / each.limit:.2f}", f"{each.packed / each.limit:.2f} (packed)"
            found.append(Target("wire", what, before, now, "≤ 1.15", "1"))
    for row in downlink.rows:
        if row.coding != "packed":  # weights in few bits are as short already
            continue
        what, share = f"{row.dtype} download by difference, every round: of all weights", row.share(1)
        note = _unless(
            share <= 0.3,
            "near its [entropy](difference.md#coding); `f16` is the default, and boards that return later get more",
        )
        found.append(Target("wire", what, "1", f"{share:.2f}", "≤ 0.3", note=note))
    return found


def of_host(commands: CommandCost, runs: RunCost, tests: SuiteCost | None) -> list[Target]:
    """Commands of the host in seconds of processor time, whole runs, and the tests."""
    demo = f"by the clock, firmware's build included; processor time of all processes {runs.demo_cpu_seconds:.1f} s"
    found = [
        Target("host", "`make demo` after the set-up: seconds", "66", f"{runs.demo_seconds:.0f}", "≤ 30", note=demo),
        Target("host", "an emulated Cortex-M4F: ms of processor time by round", "139", f"{runs.emulator_ms:.0f}", ""),
        Target("host", "firmware of which nothing changed: seconds", "5", f"{commands.unchanged_build_seconds:.2f}", "≤ 0.3"),
        Target("host", "`tinymetafed --help`: seconds", "1.7", f"{commands.help_seconds:.2f}", "≤ 0.5"),
        Target("host", "`tinymetafed doctor`: seconds", "1.7", f"{commands.doctor_seconds:.2f}", "≤ 0.5"),
        Target("host", "a federation on `native:1`: ms of the host by round", "2.6–3.4", f"{runs.host_ms:.2f}", "≤ 1.5"),
    ]
    if tests is None:
        found.append(
            Target("host", "`make test`: minutes", "", NOT_MEASURED, "≤ 10", note="`make test` records it for `make bench`")
        )
    else:
        now = f"{tests.seconds / 60:.1f}"
        note = f"{tests.tests:,} tests on {tests.cores} cores by the clock, load average before them {tests.load:.1f}"
        found.append(Target("host", "`make test`: minutes", "", now, "≤ 10", note=note))
    return found


# Per emulated board, in microseconds: what a received byte took when the target was set, and the wanted time.
_BYTES = {"mps2": ("50", ""), "esp32isa": ("44", "≤ 13")}


def of_emulators(byte_us: Mapping[str, float]) -> list[Target]:
    """What each byte on the line to an emulated board takes. ``byte_us``: by board; without those that cannot run here."""
    found = []
    for board, (before, wanted) in _BYTES.items():
        is_measured = board in byte_us
        now = f"{byte_us[board]:.0f}" if is_measured else NOT_MEASURED
        note = _unless(is_measured, "the board's compiler or emulator is not installed on the machine that has measured")
        what = f"a byte on the line to an emulated `{board}`: µs of the emulator's processor time"
        found.append(Target("host", what, before, now, wanted, note=note))
    return found


# Per network: the share of the highest rate when the target was set, and the wanted one.
_PEAK = {"sine": ("45–53", 62), "bench-conv": ("68", 77)}
_PEAK_NOTE = (
    "a weight is stored in each step, all are more than the L1 cache holds, and the last sum waits for its additions; "
    "[what each costs](one-round.md#what-differs-in-a-simulation)"
)


def of_simulation(simulation: Mapping[str, SimulationCost]) -> list[Target]:
    """The simulation of each network, on one thread."""
    found = []
    for net, each in simulation.items():
        if net in _PEAK:
            before, wanted = _PEAK[net]
            bound = "" if each.weights_percent is None else f"{100 * each.peak_percent / each.weights_percent:.0f}"
            what = f"{net}: % of the multiply-adds of one core without fused ones"
            note = _unless(each.peak_percent >= wanted, f"{100 / each.peak_percent:.1f}x away; {_PEAK_NOTE}")
            found.append(Target("simulation", what, before, f"{each.peak_percent:.0f}", f"≥ {wanted}", bound, "", note))
        single = each.single_us / each.one_thread_us
        note = _unless(single <= 2, "its last layer's sum waits for each of its additions, which other clients fill in lanes")
        found.append(
            Target("simulation", f"{net}: one client alone, of the time in a lane", "", f"{single:.2f}", "≤ 2", "", "", note)
        )
        for name, time in each.peers.items():
            ratio = f"{time / each.cpu_us:.1f}"
            found.append(Target("simulation", f"{net}: times as fast as {name}", "", ratio, "", peer=f"{time:.2f} µs a step"))
        for name in each.lacking:
            note = f"{name} is not installed on the machine that has measured"
            found.append(Target("simulation", f"{net}: times as fast as {name}", "", NOT_MEASURED, "", note=note))
        if net == "sine":
            what = "sine: % of a client's round for the coding of its update"
            found.append(Target("simulation", what, "73", f"{each.coding_percent:.0f}", "≤ 30"))
        if each.many is not None:
            what = f"{net}: seconds of processor time per million clients"
            found.append(Target("simulation", what, "", f"{each.many.seconds_per_million:.0f}", "≤ 60"))
            what = f"{net}: KiB for samples and updates, in a round of {each.many.clients:,} clients"
            note = "eight clients of each lane at once, however many take part"
            found.append(Target("simulation", what, "", f"{each.many.held_kib:,}", "bounded", note=note))
    return found


def of_simulated_runs(runs: RunCost, seeds: SeedCost) -> list[Target]:
    """Whole simulated runs: seeds side by side, the choice of clients, and Python's share."""
    alone, scalar = seeds.alone_us / seeds.together_us, seeds.scalar_us / seeds.together_us
    return [
        Target(
            "simulation", f"omniglot: {seeds.lanes} seeds in lanes, times as fast as one after the other", "1", f"{scalar:.1f}",
            "≥ 1.9", note=f"with the boards' kernels; {alone:.1f} times as one client alone, whose sums fill the lanes now",
        ),
        Target(
            "simulation", f"choosing {CHOSEN:,} of {CHOSEN:,} clients: % of their round", "62", f"{runs.choice_percent:.0f}", ""
        ),
        Target(
            "simulation", f"choosing {CHOSEN:,} of a million clients, of the time of 10,000", "",
            f"{runs.choice_ratio:.1f}", "1",
        ),
        Target(
            "simulation", "`simulate examples/sine.toml`: % of processor time outside of compiled kernels", "82",
            f"{runs.python_percent:.0f}", "≤ 50", limit=f"{runs.least_python_percent:.0f}",
            note=f"limit: Python starts and imports foreign libraries alone, {runs.libraries_seconds:.2f} s, and kernels take "
            f"{runs.kernel_seconds:.2f} s",
        ),
        Target(
            "simulation", "`simulate examples/sine.toml`: seconds of processor time", "",
            f"{runs.simulation_seconds:.2f}", "",
            note=f"{runs.short_seconds:.2f} s of it with one round; each further one takes {runs.round_ms:.2f} ms, in which "
            "Python hashes it and stores it in the journal",
        ),
    ]  # fmt: skip
