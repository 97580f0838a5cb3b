"""The page of a run: its main figures, charts, tables, interruptions, privacy and provenance."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from ...federation.result import Scores
from ...federation.standing import by_board
from ...learn.client_groups import ClientGroup
from ...learn.metric import Metric
from ..charts import FRAME, Chart
from ..estimate import RoundEstimate
from ..lateness import closed_early
from ..privacy_accounting import spent
from ..run_data import RunData
from .arena import MemoryPicture, ParameterRow, memory_picture, parameters
from .board_tables import DeltaRow, DeviceRow, EstimateRow, LateRow, delta_rows, deltas_chart, device_rows, estimates, late_rows
from .score_charts import d_curve_chart, example_chart, learning_chart, looked_at, over_bytes_chart, spread_chart
from .score_tables import ClassTable, ClientTable, class_table, client_table
from .traffic_bars import TrafficBars, dense_values, down, per_client_round, samples, traffic_bars, up
from .wording import Scale, count, duration, interval, sentence, size, tested, uses, why_no_interval

MAX_EVENTS = 40  # interruptions that are listed


@dataclass(frozen=True)
class Tile:
    """A main figure with its name and a line of context."""

    name: str
    figure: str
    context: str


@dataclass(frozen=True)
class Interruptions:
    """Interruptions of the run as text: the first events with their rounds, and how many more there are (``left_out``)."""

    continued: str
    redone: str
    skipped: str
    events: list[tuple[str, str]]
    left_out: str


@dataclass(frozen=True)
class RunPage:
    """The template's values; None or an empty list where the run has no data for a section."""

    name: str
    task: str
    finished: bool
    diverged: bool
    rounds_done: str
    rounds_planned: str
    seed: int
    metric: str
    frame: dict[str, int]
    tiles: list[Tile]
    learning: Chart | None
    over_bytes: Chart | None
    d_curve: Chart | None
    example: Chart | None
    spread: Chart | None
    clients: ClientTable | None
    classes: ClassTable | None
    estimates: list[EstimateRow]
    estimate_basis: str
    traffic: TrafficBars | None
    devices: list[DeviceRow]
    deltas: list[DeltaRow]
    deltas_chart: Chart | None
    closed_early: str
    late: list[LateRow]
    memory: MemoryPicture
    parameters: list[ParameterRow]
    notes: list[str]
    instructions: list[tuple[str, str]]
    experiment: str
    interruptions: Interruptions | None
    privacy: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    tested: str
    looked_at: str
    is_watched: bool = False  # the page grows with the run


def page(run: RunData, estimate: RoundEstimate | None = None, is_watched: bool = False) -> RunPage:
    """The template's values.

    Args:
        run: The run.
        estimate: A round on real boards, for a run without a result.
        is_watched: Whether the page grows with the run.

    Returns:
        The values.

    Raises:
        StoreError: The run's experiment cannot be read.
    """
    estimate = run.result.estimate if run.result else estimate
    result, manifest, experiment = run.result, run.manifest, run.experiment()
    planned = experiment.run.rounds
    counted = (result.instructions_per_step or {}) if result else {}
    scale = Scale(Metric.of(experiment.model.loss))
    deltas = by_board(experiment.strategy, run.measures())
    return RunPage(
        name=run.name,
        task=experiment.task.title,
        finished=result is not None,
        diverged=result is not None and not _improves(result.meta_test, scale),
        rounds_done=count(run.trained),
        rounds_planned=count(planned),
        seed=experiment.run.seed,
        metric=scale.title,
        frame=FRAME,
        tiles=_tiles(run, planned, scale),
        learning=learning_chart(run, planned, scale),
        over_bytes=over_bytes_chart(run, scale),
        d_curve=d_curve_chart(run, result.d_curve, scale) if result else None,
        example=example_chart(result.example) if result and result.example else None,
        spread=spread_chart(result.meta_test, scale) if result else None,
        clients=client_table(result.meta_test, scale) if result else None,
        classes=class_table(result.meta_test.classes) if result and result.meta_test.classes else None,
        estimates=estimates(estimate),
        estimate_basis=sentence(estimate.basis) if estimate else "",
        traffic=traffic_bars(run),
        devices=device_rows(run),
        deltas=delta_rows(run, deltas),
        deltas_chart=deltas_chart(deltas),
        closed_early=count(closed_early(run.rounds)),
        late=late_rows(run),
        memory=memory_picture(manifest),
        parameters=parameters(manifest),
        notes=[sentence(note) for note in experiment.notes],
        instructions=[(name, count(number)) for name, number in counted.items()],
        experiment=run.header.experiment + ("" if run.extended is None else f"\n# extended to run.rounds = {run.extended}\n"),
        interruptions=_interruptions(run),
        privacy=_privacy(run),
        provenance=_provenance(run),
        tested=tested(result.meta_test) if result else "",
        looked_at=sentence(looked_at(run)),
        is_watched=is_watched,
    )


def _improves(meta_test: Scores, scale: Scale) -> bool:
    """Whether adaptation improves the score by more than its confidence interval, or of a model that diverged before."""
    before, after = scale.value(meta_test.before), scale.value(meta_test.after)
    half_width = scale.value(meta_test.after_ci95 or 0)
    if not math.isfinite(after):
        return False
    return after > before + half_width if scale.metric.higher_is_better else not after >= before - half_width


def _tiles(run: RunData, planned: int, scale: Scale) -> list[Tile]:
    tiles = []
    if run.result:
        test = run.result.meta_test
        best = _which_weights(run)
        who = "for validation" if test.group is ClientGroup.VALIDATION else "never trained on"
        said = f"; {why}" if (why := why_no_interval(test)) else ""
        context = f"{scale.text(test.before)} before; mean of {tested(test)} {who}{best}{said}"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), scale.mean(test.after, interval(test)), context))
        if (online := run.result.online) is not None:
            context = f"{scale.text(online.before)} by the model that does not train; mean of {tested(online)}"
            name = sentence(f"{scale.title} on each sample before training on it")
            tiles.append(Tile(name, scale.mean(online.after, interval(online)), context))
    elif run.evaluations:
        last = run.evaluations[-1]
        context = f"{scale.text(last.before)} before; after {count(last.round)} rounds"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), scale.text(last.after), context))
    if run.rounds:
        streamed = per_client_round(run, samples)
        total = per_client_round(run, up) + per_client_round(run, down) + streamed
        share = f"{(total - streamed) / (2 * dense_values(run)):.0%} of dense float32 both ways".replace("%", " %")
        context = f"{share} and {size(streamed)} of samples" if streamed else f"{share}; samples are generated on the device"
        tiles.append(Tile("Bytes per client and round", count(total), context))
    took = duration(sum(entry.seconds for entry in run.rounds))
    context = f"in {took}" if run.trained >= planned else f"of {count(planned)}, in {took}"
    context += f"; {note}" if (note := uses(run.experiment())) else ""
    tiles.append(Tile("Rounds", count(run.trained), context))
    manifest = run.manifest
    weights = count(manifest.n_parameters)
    context = f"of {size(manifest.memory.ram_available)} on {manifest.board}; {weights} weights"
    tiles.append(Tile("Memory on the device", size(manifest.memory.ram_total), context))
    return tiles


def _privacy(run: RunData) -> list[tuple[str, str]]:
    """Rows about the privacy of the rounds so far; none for updates that are not private."""
    found = spent(run)
    if found is None:
        return []
    known = found.epsilon is not None or not found.note
    rows = [(f"ε at δ = {found.delta:g}", _epsilon(found.epsilon)), ("ε for the host", _epsilon(found.host_epsilon))]
    return [
        *(rows if known else []),
        ("most rounds of one client", count(found.rounds)),
        *([("noise multiplier of these together", f"{found.noise_multiplier:.3g}")] if found.noise_multiplier else []),
        ("sampling of clients", found.sampling),
        *([("note", found.note)] if found.note else []),
    ]


def _epsilon(value: float | None) -> str:
    return "no bound" if value is None else f"{value:.3g}"


def _which_weights(run: RunData) -> str:
    """Says which weights were tested, if they are not those of the last round."""
    mean = "" if run.averaged is None else f"mean of the weights after the last {count(run.averaged)} rounds"
    if run.best is None:
        return f"; {mean}" if mean else ""
    return f"; the best weights of validation clients, after {count(run.kept_round)} rounds{f' ({mean})' if mean else ''}"


def _interruptions(run: RunData) -> Interruptions | None:
    """Sessions after the first, and contributions that were redone, or skipped though not late; None if there are none."""
    resumed = [
        (session.round, "the run was continued" + ("" if session.rounds is None else f", to {count(session.rounds)} rounds"))
        for session in run.sessions[1:]
    ]
    contributions = [
        (entry.round, part)
        for entry in run.rounds
        for part in entry.contributions
        if part.status != "accepted" and all(part.client != late.client for late in entry.late or ())
    ]
    troubled = [(at, f"client {part.client} {part.status}: {part.note}") for at, part in contributions]
    events = sorted(resumed + troubled, key=lambda event: event[0])
    if not events:
        return None
    statuses = Counter(part.status for _, part in contributions)
    return Interruptions(
        continued=count(len(resumed)),
        redone=count(statuses["redone"]),
        skipped=count(statuses["skipped"]),
        events=[(count(at), text) for at, text in events[:MAX_EVENTS]],
        left_out=count(len(events) - MAX_EVENTS) if len(events) > MAX_EVENTS else "",
    )


def _provenance(run: RunData) -> list[tuple[str, str]]:
    facts = [("model hash", run.manifest.model_hash), ("wire schema hash", run.manifest.schema_hash)]
    if run.result:
        facts = [("SHA-256 of the weights", run.result.weights_sha256), *facts, *run.result.versions.items()]
    return facts
