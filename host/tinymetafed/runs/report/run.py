"""One run's page: what was reached, at what cost, where, and what each figure counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..charts import FRAME, Chart, Point, Role, Series, chart
from ..store import Json, RunData
from .arena import Bar, memory, parameters
from .wording import Scale, byte_unit, count, duration, metric, sentence, size, span, tested, title

MAX_EVENTS = 40  # interruptions listed one by one
BEFORE_AND_AFTER: tuple[Role, Role] = ("before", "after")


@dataclass(frozen=True)
class Tile:
    """A headline figure, its name, and the context without which it says nothing."""

    name: str
    figure: str
    context: str


def page(run: RunData) -> dict[str, Any]:
    """What the template prints. Raises KeyError, TypeError, ValueError or IndexError where the run's figures are others."""
    result, manifest = run.result, run.manifest
    settings = run.settings
    scale = Scale(metric(settings))
    kind = settings["task"]["kind"]
    return {
        "name": run.name,
        "task": title(kind),
        "finished": result is not None,
        "diverged": result is not None and not _improves(result["meta_test"], scale),
        "rounds_done": count(run.trained),
        "rounds_planned": count(settings["run"]["rounds"]),
        "seed": settings["run"]["seed"],
        "metric": scale.title,
        "frame": FRAME,
        "tiles": _tiles(run, scale),
        "learning": _learning(run, scale),
        "over_bytes": _over_bytes(run, scale),
        "d_curve": _d_curve(result["d_curve"], scale) if result else None,
        "example": _example(result["example"]) if result and result["example"] else None,
        "spread": _spread(result["meta_test"], scale) if result and result["meta_test"].get("per_task") else None,
        "clients": _clients(result["meta_test"], scale) if result and result["meta_test"].get("spread") else None,
        "estimates": estimates(result) if result else [],
        "estimate_basis": sentence(result["estimate"]["basis"]) if result and result["estimate"] else "",
        "traffic": _traffic(run),
        "devices": _devices(run),
        "memory": memory(manifest),
        "parameters": parameters(manifest),
        "instructions": _facts(result.get("instructions_per_step") or {}) if result else [],
        "experiment": run.experiment_text,
        "interruptions": _interruptions(run),
        "provenance": _provenance(run),
        "tested": tested(result["meta_test"]) if result else "",
    }


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
    return 4.0 * float(run.manifest.n_global)


def _tiles(run: RunData, scale: Scale) -> list[Tile]:
    tiles = []
    if run.result:
        test = run.result["meta_test"]
        after = scale.mean(test["after"], test.get("after_ci95"))
        context = f"{scale.text(test['before'])} before; mean of {tested(test)} never trained on"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), after, context))
    elif run.evaluations:
        last = run.evaluations[-1]
        context = f"{scale.text(last['before'])} before; after {count(last['round'])} rounds"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), scale.text(last["after"]), context))
    if run.rounds:
        up, down = (_per_client_round(run, f"bytes_{way}") for way in ("up", "down"))
        dense = _dense_values(run)
        share = f"{(up + down) / (2 * dense):.0%} of dense float32 both ways; ".replace("%", " %")
        samples = _per_client_round(run, "bytes_samples")
        context = share + (f"streamed samples apart: {size(samples)}" if samples else "samples are made on the device")
        tiles.append(Tile("Bytes per client and round", count(up + down), context))
    seconds = sum(float(entry["seconds"]) for entry in run.rounds)
    done, planned = run.trained, int(run.settings["run"]["rounds"])
    context = f"in {duration(seconds)}" if done >= planned else f"of {count(planned)}, in {duration(seconds)}"
    tiles.append(Tile("Rounds", count(done), context))
    manifest = run.manifest
    weights = count(manifest.n_parameters)
    context = f"of {size(manifest.memory.ram_available)} on {manifest.board}; {weights} weights"
    tiles.append(Tile("Memory on the device", size(manifest.memory.ram_total), context))
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


def _over_bytes(run: RunData, scale: Scale) -> Chart | None:
    """The metric over what had been sent; None where a single evaluation leaves nothing to draw."""
    points = [(wire_bytes(entry), scale.value(entry["after"])) for entry in run.evaluations]
    if sum(math.isfinite(y) for _, y in points) < 2 or not points[-1][0]:
        return None
    unit, factor = byte_unit(points[-1][0])
    return chart(
        [Series("after adaptation", "after", [(x / factor, y) for x, y in points], dots=len(points) <= 40)],
        f"{unit} on the wire, both ways",
        scale.label,
        f"{scale.title} of held-out clients over bytes on the wire",
        y_range=(0, 100) if scale.metric == "accuracy" else None,
        log_y=scale.metric == "mse",
    )


def wire_bytes(evaluation: Json) -> float:
    """Bytes that had gone both ways when held-out clients were tried, samples not counted."""
    return float(evaluation["bytes_down"] + evaluation["bytes_up"])


def _clients(meta_test: Json, scale: Scale) -> dict[str, Any]:
    """Percentiles over clients, and the best and the worst by name."""
    spread = meta_test["spread"]
    ends = [(which, spread[which]) for which in ("best", "worst")]
    return {
        "percentiles": [(f"{percent} %", scale.text(score)) for percent, score in spread["percentiles"].items()],
        "ends": [(w, count(e["client"]), str(e["task"]), scale.text(e["before"]), scale.text(e["after"])) for w, e in ends],
    }


def estimates(result: Json) -> list[tuple[str, str, str, str, str]]:
    """By board: time on the line, time training, both together, energy; as text."""
    return [
        (
            str(board["title"]),
            f"{board['wire_seconds']:.2f} s",
            span(board["training_seconds"], "s"),
            span(board["seconds"], "s"),
            span([1000 * joules for joules in board["joules"]], "mJ"),
        )
        for board in (result["estimate"] or {"boards": {}})["boards"].values()
    ]


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
        f"{scale.title} over {curve['samples']}, {tested(curve, 'new ')}",
        y_range=(0, 100) if scale.metric == "accuracy" else None,
        log_y=scale.metric == "mse",
        x_ticks=[(float(i), str(d)) for i, d in enumerate(curve["d"])],
    )


def _example(example: Json) -> Chart:
    """One new client's predictions before and after, over its input or against the truth."""
    if "true" in example:
        true = [float(value) for value in example["true"]]
        series = [Series("perfect", "truth", [(end, end) for end in (min(true), max(true))])]
        for role in BEFORE_AND_AFTER:
            points = [(at, math.nan if y is None else float(y)) for at, y in zip(true, example[role], strict=True)]
            series.append(Series(role, role, points, line=False, dots=True))
        summary = f"a client never trained on, {example['client']}: predicted against true values, before and after adaptation"
        return chart(series, "true", "predicted", summary)
    x = [float(value) for value in example["x"]]

    def curve(values: Sequence[float | None]) -> list[Point]:
        return [(at, math.nan if value is None else float(value)) for at, value in zip(x, values, strict=True)]

    shots = list(zip(map(float, example["samples_x"]), map(float, example["samples_y"]), strict=True))
    return chart(
        [
            Series("truth", "truth", curve(example["truth"])),
            Series("before", "before", curve(example["before"])),
            Series("after", "after", curve(example["after"])),
            Series(f"its {len(shots)} samples", "samples", shots, line=False, dots=True),
        ],
        "x",
        "y",
        f"a client never trained on, {example['client']}: before and after adaptation, against the truth",
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
        "bars": [Bar(label, count(amount), round(amount / longest, 4)) for label, amount in amounts],
        "dense": Bar("dense float32, one way", count(dense), round(dense / longest, 4)),
        "totals": [
            (size(total), name)
            for name, way in (("to clients", "down"), ("from clients", "up"), ("of samples", "samples"))
            if (total := sum(entry[f"bytes_{way}"] for entry in run.rounds))
        ],
        "retries": count(sum(entry.get("retries", 0) for entry in run.rounds)),
    }


def _devices(run: RunData) -> list[dict[str, str]]:
    """What each device is and did."""
    return [
        {
            "url": str(device["url"]),
            "board": str(device["board"]),
            "unique_id": str(device["unique_id"]),
            "window": count(device["receive_window"]),
            "rounds": count(device["rounds"]),
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
        "continued": count(len(resumed)),
        "redone": count(statuses["redone"]),
        "skipped": count(statuses["skipped"]),
        "events": [(count(at), text) for at, text in events[:MAX_EVENTS]],
        "left_out": count(len(events) - MAX_EVENTS) if len(events) > MAX_EVENTS else "",
    }


def _facts(facts: Json) -> list[tuple[str, str]]:
    """Names and values for a table; integers with thousands separators."""
    return [(str(name), f"{fact:,}" if isinstance(fact, int) else str(fact)) for name, fact in facts.items()]


def _provenance(run: RunData) -> list[tuple[str, str]]:
    facts = [("model hash", run.manifest.model_hash), ("wire schema hash", run.manifest.schema_hash)]
    if run.result:
        facts = [("SHA-256 of the weights", run.result["weights_sha256"]), *facts, *run.result["versions"].items()]
    return [(str(name), str(fact)) for name, fact in facts]
