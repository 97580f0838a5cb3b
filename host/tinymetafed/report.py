"""A run folder as one self-contained HTML page: what was reached, at what cost, where, and what each figure counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tinymetafed_codegen.emit import write_if_changed

from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Point, Role, Series, chart
from .store import Json, RunData, read_run

_TEMPLATES = Path(__file__).parent / "templates"
MAX_EVENTS = 40  # interruptions listed one by one
TASK_TITLES = {
    "sine": "Sine waves",
    "omniglot": "Omniglot characters",
    "keywords": "Spoken words",
    "presence": "Presence in rooms",
    "folder": "Your own data",
}


class ReportError(Exception):
    """A run that lacks a figure which the page shows; the text names it."""


def write(run_dir: Path) -> Path:
    """Writes ``report.html`` into the run folder, whole or not at all, and returns its path. Raises StoreError, ReportError."""
    path = run_dir / "report.html"
    write_if_changed(path, render(read_run(run_dir)))
    return path


def render(run: RunData) -> str:
    """The page. Raises ReportError where the run lacks a figure that its format promises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        return environment.get_template("report.html.j2").render(_page(run))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReportError(f"{run.name}: its files are not those of this version's runs: {error!r}") from error


# Numbers as text


@dataclass(frozen=True)
class Scale:
    """How a metric is written: accuracy in percent, MSE as it is."""

    metric: str

    @property
    def label(self) -> str:
        """Axis title."""
        return "accuracy (%)" if self.metric == "accuracy" else "mean squared error"

    @property
    def title(self) -> str:
        """Name in running text."""
        return "accuracy" if self.metric == "accuracy" else "MSE"

    def value(self, raw: float | None) -> float:
        """The number to plot; NaN for a diverged model, whose JSON is null or Infinity."""
        number = math.nan if raw is None else float(raw)
        return number * 100 if self.metric == "accuracy" else number

    def text(self, raw: float | None) -> str:
        """The number to print."""
        number = self.value(raw)
        if not math.isfinite(number):
            return "diverged"
        return f"{number:.1f} %" if self.metric == "accuracy" else f"{number:.3g}" if number < 1000 else f"{number:.1e}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _size(number: float) -> str:
    """Bytes in the unit that reads best."""
    if number < 10_000:
        return f"{number:,.0f} bytes"
    unit, factor = next((u, f) for u, f in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)) if number < 1000 * f or u == "GB")
    return f"{number / factor:,.1f} {unit}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


# The page's parts

BEFORE_AND_AFTER: tuple[Role, Role] = ("before", "after")


@dataclass(frozen=True)
class Tile:
    """A headline figure, its name, and the context without which it says nothing."""

    name: str
    figure: str
    context: str


@dataclass(frozen=True)
class Bar:
    """A bar whose length is ``share`` (0 to 1) of the longest."""

    label: str
    value: str
    share: float


@dataclass(frozen=True)
class Box:
    """A tensor in the arena map: columns are steps, heights are bytes, in SVG units."""

    label: str
    title: str
    x: float
    y: float
    width: float
    height: float


def _page(run: RunData) -> dict[str, Any]:
    result, manifest = run.result, run.manifest
    settings = run.settings
    scale = Scale("accuracy" if settings["model"]["loss"] == "softmax_cross_entropy" else "mse")
    kind = settings["task"]["kind"]
    return {
        "name": run.name,
        "task": TASK_TITLES.get(kind, kind),
        "finished": result is not None,
        "diverged": result is not None and not _improves(result["meta_test"], scale),
        "rounds_done": _count(run.trained),
        "rounds_planned": _count(settings["run"]["rounds"]),
        "seed": settings["run"]["seed"],
        "metric": scale.title,
        "frame": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
        "tiles": _tiles(run, scale),
        "learning": _learning(run, scale),
        "d_curve": _d_curve(result["d_curve"], scale) if result else None,
        "example": _example(result["example"]) if result and result["example"] else None,
        "spread": _spread(result["meta_test"], scale) if result and result["meta_test"].get("per_task") else None,
        "traffic": _traffic(run),
        "devices": _devices(run),
        "memory": _memory(manifest),
        "parameters": _parameters(manifest),
        "instructions": _facts(result.get("instructions_per_step") or {}) if result else [],
        "experiment": run.experiment_text,
        "interruptions": _interruptions(run),
        "provenance": _provenance(run),
        "tested": _tested(result["meta_test"]) if result else "",
    }


def _tested(meta_test: Json, kind: str = "") -> str:
    """Who was tested: clients, or several splits of the data of fewer."""
    tasks, clients = meta_test["n_tasks"], meta_test["n_clients"]
    who = f"{_count(clients)} {kind}client{'' if clients == 1 else 's'}"
    return who if tasks == clients else f"{_count(tasks)} splits of {who}"


def _improves(meta_test: Json, scale: Scale) -> bool:
    """Whether adaptation helps by more than the interval of its mean; a model that diverged before it may."""
    before, after = scale.value(meta_test["before"]), scale.value(meta_test["after"])
    interval = scale.value(meta_test.get("after_ci95") or 0)
    if not math.isfinite(after):
        return False
    return after > before + interval if scale.metric == "accuracy" else not after >= before - interval


def _per_client_round(run: RunData, key: str) -> float:
    """Mean bytes of one client in one round, over the journal's rounds."""
    return float(sum(entry[key] for entry in run.rounds) / max(sum(len(entry["contributions"]) for entry in run.rounds), 1))


def _dense_values(run: RunData) -> float:
    """Bytes of all global weights as float32, framing not counted."""
    return 4.0 * float(run.manifest["n_global"])


def _tiles(run: RunData, scale: Scale) -> list[Tile]:
    tiles = []
    if run.result:
        test = run.result["meta_test"]
        interval = scale.text(test["after_ci95"]).removesuffix(" %") if test.get("after_ci95") is not None else None
        after = scale.text(test["after"])
        if interval:
            after = after.replace(" %", "") + f" ± {interval}" + (" %" if scale.metric == "accuracy" else "")
        context = f"{scale.text(test['before'])} before; mean of {_tested(test)} never trained on"
        tiles.append(Tile(_sentence(f"{scale.title} after adaptation"), after, context))
    elif run.evaluations:
        last = run.evaluations[-1]
        context = f"{scale.text(last['before'])} before; after {_count(last['round'])} rounds"
        tiles.append(Tile(_sentence(f"{scale.title} after adaptation"), scale.text(last["after"]), context))
    if run.rounds:
        up, down = (_per_client_round(run, f"bytes_{way}") for way in ("up", "down"))
        dense = _dense_values(run)
        share = f"{(up + down) / (2 * dense):.0%} of dense float32 both ways; ".replace("%", " %")
        samples = _per_client_round(run, "bytes_samples")
        context = share + (f"streamed samples apart: {_size(samples)}" if samples else "samples are made on the device")
        tiles.append(Tile("Bytes per client and round", _count(up + down), context))
    seconds = sum(float(entry["seconds"]) for entry in run.rounds)
    done, planned = run.trained, int(run.settings["run"]["rounds"])
    context = f"in {_duration(seconds)}" if done >= planned else f"of {_count(planned)}, in {_duration(seconds)}"
    tiles.append(Tile("Rounds", _count(done), context))
    manifest = run.manifest
    weights = _count(manifest["n_parameters"])
    context = f"of {_size(manifest['ram_available'])} on {manifest['board']}; {weights} weights"
    tiles.append(Tile("Memory on the device", _size(manifest["ram_total"]), context))
    return tiles


def _learning(run: RunData, scale: Scale) -> Chart | None:
    """The metric over rounds; None where a single evaluation leaves nothing to draw."""
    series = [
        Series(
            f"{role} adaptation",
            role,
            [(float(entry["round"]), scale.value(entry[role])) for entry in run.evaluations],
            dots=len(run.evaluations) <= 40,
        )
        for role in BEFORE_AND_AFTER
    ]
    if run.result:
        test = run.result["meta_test"]
        final = [(float(run.result["rounds"]), scale.value(test["after"]))]
        errors = [scale.value(test["after_ci95"])] if test.get("after_ci95") is not None else []
        label = "final meta-test" + (", 95 % interval" if errors else "")
        series.append(Series(label, "final", final, errors, line=False))
    if not any(math.isfinite(y) for one in series for _, y in one.points) or len(run.evaluations) < 2:
        return None
    return chart(
        series,
        "rounds trained",
        scale.label,
        f"{scale.title} of held-out clients over rounds trained",
        x_range=(0, float(run.settings["run"]["rounds"])),
        y_range=(0, 100) if scale.metric == "accuracy" else None,
        log_y=scale.metric == "mse",
    )


def _d_curve(curve: Json, scale: Scale) -> Chart | None:
    """The metric of new clients over the samples that each adapts with; None where all models diverged."""
    points = [(float(i), scale.value(mean)) for i, mean in enumerate(curve["mean"])]
    if not any(math.isfinite(y) for _, y in points):
        return None
    errors = [scale.value(half_width) for half_width in curve["ci95"]]
    known = any(math.isfinite(error) for error in errors)
    return chart(
        [Series("mean, 95 % interval" if known else "mean", "after", points, errors, dots=True)],
        curve["samples"],
        scale.label,
        f"{scale.title} over {curve['samples']}, {_tested(curve, 'new ')}",
        y_range=(0, 100) if scale.metric == "accuracy" else None,
        log_y=scale.metric == "mse",
        x_ticks=[(float(i), str(d)) for i, d in enumerate(curve["d"])],
    )


def _example(showcase: Json) -> Chart:
    """One new client's predictions before and after, over its input or against the truth."""
    if "true" in showcase:
        true = [float(value) for value in showcase["true"]]
        series = [Series("perfect", "truth", [(end, end) for end in (min(true), max(true))])]
        for role in BEFORE_AND_AFTER:
            points = [(at, math.nan if y is None else float(y)) for at, y in zip(true, showcase[role], strict=True)]
            series.append(Series(role, role, points, line=False, dots=True))
        summary = f"a client never trained on, {showcase['client']}: predicted against true values, before and after adaptation"
        return chart(series, "true", "predicted", summary)
    x = [float(value) for value in showcase["x"]]

    def curve(values: Sequence[float | None]) -> list[Point]:
        return [(at, math.nan if value is None else float(value)) for at, value in zip(x, values, strict=True)]

    shots = list(zip(map(float, showcase["samples_x"]), map(float, showcase["samples_y"]), strict=True))
    return chart(
        [
            Series("truth", "truth", curve(showcase["truth"])),
            Series("before", "before", curve(showcase["before"])),
            Series("after", "after", curve(showcase["after"])),
            Series(f"its {len(shots)} samples", "samples", shots, line=False, dots=True),
        ],
        "x",
        "y",
        f"a client never trained on, {showcase['client']}: before and after adaptation, against the truth",
    )


def _spread(meta_test: Json, scale: Scale) -> Chart | None:
    """Every held-out client, best first: what a mean hides."""
    series = []
    for column, role in enumerate(BEFORE_AND_AFTER):
        values = [scale.value(pair[column]) for pair in meta_test["per_task"]]
        ordered = sorted((v for v in values if math.isfinite(v)), reverse=scale.metric == "accuracy")
        points = [(float(rank), value) for rank, value in enumerate(ordered, 1)]
        series.append(Series(f"{role} adaptation", role, points))
    if not any(one.points for one in series):
        return None
    return chart(
        series,
        "held-out clients, best first",
        scale.label,
        f"{scale.title} of every held-out client, sorted",
        y_range=(0, 100) if scale.metric == "accuracy" else None,
        log_y=scale.metric == "mse",
    )


def _traffic(run: RunData) -> dict[str, Any] | None:
    """Mean bytes per client and round by direction, beside the same weights as dense float32."""
    if not run.rounds:
        return None
    amounts = [("weights, to the client", _per_client_round(run, "bytes_down"))]
    amounts.append(("delta, from the client", _per_client_round(run, "bytes_up")))
    samples = _per_client_round(run, "bytes_samples")
    if samples:
        amounts.append(("samples, both ways", samples))
    dense = _dense_values(run)
    longest = max([amount for _, amount in amounts] + [dense])
    return {
        "bars": [Bar(label, _count(amount), round(amount / longest, 4)) for label, amount in amounts],
        "dense": Bar("dense float32, one way", _count(dense), round(dense / longest, 4)),
        "totals": [
            (_size(total), name)
            for name, way in (("to clients", "down"), ("from clients", "up"), ("of samples", "samples"))
            if (total := sum(entry[f"bytes_{way}"] for entry in run.rounds))
        ],
        "retries": _count(sum(entry.get("retries", 0) for entry in run.rounds)),
    }


def _devices(run: RunData) -> list[dict[str, str]]:
    """What each device is and did."""
    return [
        {
            "url": str(device["url"]),
            "board": str(device["board"]),
            "unique_id": str(device["unique_id"]),
            "window": _count(device["receive_window"]),
            "rounds": _count(device["rounds"]),
        }
        for device in run.devices
    ]


def _interruptions(run: RunData) -> dict[str, Any] | None:
    """What did not go straight through: sessions after the first, and contributions redone or skipped."""
    resumed = [(session["round"], "the run was continued") for session in run.sessions[1:]]
    troubled = [
        (entry["round"], f"client {part['client']} {part['status']}: {part['note']}")
        for entry in run.rounds
        for part in entry["contributions"]
        if part["status"] != "accepted"
    ]
    events = sorted(resumed + troubled, key=lambda event: event[0])
    if not events:
        return None
    statuses = Counter(part["status"] for entry in run.rounds for part in entry["contributions"])
    return {
        "continued": _count(len(resumed)),
        "redone": _count(statuses["redone"]),
        "skipped": _count(statuses["skipped"]),
        "events": [(_count(at), text) for at, text in events[:MAX_EVENTS]],
        "left_out": _count(len(events) - MAX_EVENTS) if len(events) > MAX_EVENTS else "",
    }


MAP_COLUMN, MAP_LEAST_WIDTH, MAP_HEIGHT, MAP_TOP = 82, 900, 330, 34


def _memory(manifest: Json) -> dict[str, Any]:
    """RAM by purpose, and the arena: which tensor holds which bytes during which step of training on a sample."""
    ram = sorted(manifest["ram_bytes"].items(), key=lambda item: -item[1])
    available = manifest["ram_available"]
    arena = manifest["arena"]
    steps = arena["steps"]
    width = max(MAP_LEAST_WIDTH, MAP_COLUMN * len(steps))
    column = width / len(steps)
    used = max(tensor["offset"] + tensor["size"] for tensor in arena["tensors"])
    row = (MAP_HEIGHT - MAP_TOP - 2) / used
    boxes = [
        Box(
            label=str(tensor["name"]),
            title=f"{tensor['name']} {tensor['shape']}, {_count(4 * tensor['size'])} bytes",
            x=round(tensor["first"] * column + 1, 1),
            y=round(MAP_TOP + tensor["offset"] * row, 1),
            width=round((tensor["last"] - tensor["first"] + 1) * column - 2, 1),
            height=round(tensor["size"] * row, 1),
        )
        for tensor in arena["tensors"]
    ]
    return {
        "ram": [Bar(name, _count(size), round(size / ram[0][1], 4)) for name, size in ram],
        "total": _count(manifest["ram_total"]),
        "available": _count(available),
        "share": f"{manifest['ram_total'] / available:.1%}".replace("%", " %"),
        "flash": _count(manifest["flash_estimate"]),
        "flash_available": _count(manifest["flash_available"]),
        "board": str(manifest["board"]),
        "arena_bytes": _count(4 * arena["floats"]),
        "arena_used": _count(4 * used),
        "boxes": boxes,
        "steps": [(round((i + 0.5) * column, 1), str(step).split()) for i, step in enumerate(steps)],
        "width": width,
        "height": MAP_HEIGHT,
    }


def _parameters(manifest: Json) -> list[dict[str, str]]:
    return [
        {
            "name": str(parameter["name"]),
            "shape": " × ".join(map(str, parameter["shape"])),
            "size": _count(parameter["size"]),
            "part": str(parameter["part"]),
        }
        for parameter in manifest["parameters"]
    ]


def _facts(facts: Json) -> list[tuple[str, str]]:
    """Names and values for a table; integers with thousands separators."""
    return [(str(name), f"{fact:,}" if isinstance(fact, int) else str(fact)) for name, fact in facts.items()]


def _provenance(run: RunData) -> list[tuple[str, str]]:
    facts = [("model hash", run.manifest["model_hash"]), ("wire schema hash", run.manifest["schema_hash"])]
    if run.result:
        facts = [("SHA-256 of the weights", run.result["weights_sha256"]), *facts, *run.result["versions"].items()]
    return [(str(name), str(fact)) for name, fact in facts]
