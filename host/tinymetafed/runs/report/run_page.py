"""The content of a run's page: scores, traffic, memory, devices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...federation.result import ClassScores, CurveExample, DCurve, Evaluation, Example, FinalScores, Score, Scores
from ...federation.standing import BoardDeltas, by_board
from ...learn.metric import Metric
from ..charts import FRAME, Chart, Level, Point, Role, Series, chart
from ..journal import RoundEntry
from ..privacy_accounting import spent
from ..run_data import RunData
from .arena import Bar, MemoryPicture, ParameterRow, memory_picture, parameters
from .wording import Scale, byte_unit, chance, count, duration, interval, sentence, size, span, tested

MAX_EVENTS = 40  # interruptions that are listed
BEFORE_AND_AFTER: tuple[Role, Role] = ("before", "after")


@dataclass(frozen=True)
class Tile:
    """A main figure with its name and a line of context."""

    name: str
    figure: str
    context: str


@dataclass(frozen=True)
class ClientTable:
    """As text: percentiles over clients, and the best and worst client (which, number, task, before, after)."""

    percentiles: list[tuple[str, str]]
    ends: list[tuple[str, str, str, str, str]]


@dataclass(frozen=True)
class ClassTable:
    """As text: the classes' names, and for each class its samples by prediction, precision and recall.

    ``columns``: the names, and at the end "none" if a model that diverged predicted nothing.
    """

    columns: list[str]
    rows: list[tuple[str, list[str], str, str]]


@dataclass(frozen=True)
class TrafficBars:
    """Mean bytes per client and round by direction, the bytes of dense float32 weights, and totals of the run."""

    bars: list[Bar]
    dense: Bar
    totals: list[tuple[str, str]]
    retries: str
    full: str  # bytes to clients with all weights in place of differences; "" without a download by difference


@dataclass(frozen=True)
class DeviceRow:
    """A device in a table, as text; ``window``: receive window in bytes, ``rounds``: client rounds trained."""

    url: str
    board: str
    unique_id: str
    window: str
    rounds: str


@dataclass(frozen=True)
class DeltaRow:
    """The deltas of a board in a table, as text; ``aside``: why it was set aside, "" if it was not."""

    url: str
    unique_id: str
    rounds: str
    norm_median: str
    norm_largest: str
    cosine: str
    shortened: str
    left_out: str
    aside: str


@dataclass(frozen=True)
class Interruptions:
    """Interruptions of the run as text: the first events with their rounds, and how many more there are (``left_out``)."""

    continued: str
    redone: str
    skipped: str
    events: list[tuple[str, str]]
    left_out: str


EstimateRow = tuple[str, str, str, str, str]  # board, time on the line, time training, both together, energy


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
    memory: MemoryPicture
    parameters: list[ParameterRow]
    running_note: str
    instructions: list[tuple[str, str]]
    experiment: str
    interruptions: Interruptions | None
    privacy: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    tested: str


def page(run: RunData) -> RunPage:
    """The template's values. Raises StoreError if the run's experiment cannot be read."""
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
        learning=_learning(run, planned, scale),
        over_bytes=_over_bytes(run, scale),
        d_curve=_d_curve(run, result.d_curve, scale) if result else None,
        example=_example(result.example) if result and result.example else None,
        spread=_spread(result.meta_test, scale) if result else None,
        clients=_clients(result.meta_test, scale) if result else None,
        classes=_classes(result.meta_test.classes) if result and result.meta_test.classes else None,
        estimates=estimates(run),
        estimate_basis=sentence(result.estimate.basis) if result and result.estimate else "",
        traffic=_traffic(run),
        devices=_devices(run),
        deltas=_deltas(run, deltas),
        deltas_chart=_deltas_chart(deltas),
        memory=memory_picture(manifest),
        parameters=parameters(manifest),
        running_note=experiment.data.running_note,
        instructions=[(name, count(number)) for name, number in counted.items()],
        experiment=run.header.experiment + ("" if run.extended is None else f"\n# extended to run.rounds = {run.extended}\n"),
        interruptions=_interruptions(run),
        privacy=_privacy(run),
        provenance=_provenance(run),
        tested=tested(result.meta_test) if result else "",
    )


def _improves(meta_test: Scores, scale: Scale) -> bool:
    """Whether adaptation improves the score by more than its confidence interval, or of a model that diverged before."""
    before, after = scale.value(meta_test.before), scale.value(meta_test.after)
    half_width = scale.value(meta_test.after_ci95 or 0)
    if not math.isfinite(after):
        return False
    return after > before + half_width if scale.metric.higher_is_better else not after >= before - half_width


def down(entry: RoundEntry) -> int:
    """Bytes of a round to its clients, without samples."""
    return entry.bytes_down


def up(entry: RoundEntry) -> int:
    """Bytes of a round from its clients, without samples."""
    return entry.bytes_up


def samples(entry: RoundEntry) -> int:
    """Bytes of a round's samples, both directions."""
    return entry.bytes_samples


def _per_client_round(run: RunData, sent: Callable[[RoundEntry], int]) -> float:
    """Mean bytes per client and round, over all rounds."""
    return float(sum(map(sent, run.rounds)) / max(sum(len(entry.contributions) for entry in run.rounds), 1))


def _dense_values(run: RunData) -> float:
    """Bytes of all global weights as float32, without framing."""
    return 4.0 * float(run.manifest.n_global)


def _tiles(run: RunData, planned: int, scale: Scale) -> list[Tile]:
    tiles = []
    if run.result:
        test = run.result.meta_test
        best = _which_weights(run)
        context = f"{scale.text(test.before)} before; mean of {tested(test)} never trained on{best}"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), scale.mean(test.after, interval(test)), context))
    elif run.evaluations:
        last = run.evaluations[-1]
        context = f"{scale.text(last.before)} before; after {count(last.round)} rounds"
        tiles.append(Tile(sentence(f"{scale.title} after adaptation"), scale.text(last.after), context))
    if run.rounds:
        streamed = _per_client_round(run, samples)
        total = _per_client_round(run, up) + _per_client_round(run, down) + streamed
        share = f"{total / (2 * _dense_values(run)):.0%} of dense float32 both ways; ".replace("%", " %")
        context = share + (f"{size(streamed)} of them are samples" if streamed else "samples are generated on the device")
        tiles.append(Tile("Bytes per client and round", count(total), context))
    took = duration(sum(entry.seconds for entry in run.rounds))
    context = f"in {took}" if run.trained >= planned else f"of {count(planned)}, in {took}"
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
    if run.best is None:
        return ""
    return f"; the best weights of other held-out clients, after {count(run.kept_round)} rounds"


def _learning(run: RunData, planned: int, scale: Scale) -> Chart | None:
    """The metric over rounds; None with fewer than two evaluations."""
    series = [
        Series(
            f"{role} adaptation",
            role,
            [(float(entry.round), scale.value(score)) for entry, score in zip(run.evaluations, scores, strict=True)],
            dots=len(run.evaluations) <= 40,
        )
        for role, scores in (
            ("before", [entry.before for entry in run.evaluations]),
            ("after", [entry.after for entry in run.evaluations]),
        )
    ]
    if run.result:
        test = run.result.meta_test
        final = [(float(run.result.rounds), scale.value(test.after))]
        half_width = interval(test)
        errors = [scale.value(half_width)] if half_width is not None else []
        label = "final meta-test" + (", 95 % interval" if errors else "")
        series.append(Series(label, "final", final, errors, line=False))
    if not any(math.isfinite(y) for one in series for _, y in one.points) or len(run.evaluations) < 2:
        return None
    untrained = run.result.untrained if run.result else None
    return chart(
        series,
        "rounds trained",
        scale.label,
        f"{scale.title} of held-out clients over rounds trained",
        x_range=(0, float(planned)),
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        levels=[
            *_guessing(run),
            *([Level("no federation", "untrained", scale.value(untrained.after))] if untrained else []),
        ],
    )


def _over_bytes(run: RunData, scale: Scale) -> Chart | None:
    """The metric over bytes sent; None with fewer than two evaluations."""
    points = [(wire_bytes(run, entry), scale.value(entry.after)) for entry in run.evaluations]
    if sum(math.isfinite(y) for _, y in points) < 2 or not points[-1][0]:
        return None
    unit, factor = byte_unit(points[-1][0])
    return chart(
        [Series("after adaptation", "after", [(x / factor, y) for x, y in points], dots=len(points) <= 40)],
        f"{unit} on the wire, both ways",
        scale.label,
        f"{scale.title} of held-out clients over bytes on the wire",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        levels=_guessing(run),
    )


def wire_bytes(run: RunData, evaluation: Evaluation) -> float:
    """Bytes sent in both directions before an evaluation, samples included."""
    streamed = sum(samples(entry) for entry in run.rounds[: evaluation.round])
    return float(evaluation.bytes_down + evaluation.bytes_up + streamed)


def _guessing(run: RunData) -> list[Level]:
    """The accuracy of guessing; none for values."""
    guess = chance(run.experiment(), run.manifest.output_size)
    return [Level(guess[0], "chance", guess[1])] if guess else []


def _clients(meta_test: FinalScores, scale: Scale) -> ClientTable:
    """Percentiles over clients, and the best and worst client."""
    spread = meta_test.spread
    return ClientTable(
        percentiles=[(f"{percent} %", scale.text(score)) for percent, score in spread.percentiles.items()],
        ends=[
            (which, count(client.client), client.task, scale.text(client.before), scale.text(client.after))
            for which, client in (("best", spread.best), ("worst", spread.worst))
        ],
    )


def _classes(classes: ClassScores) -> ClassTable:
    """The confusion matrix with precision and recall."""
    undecided = any(row[-1] for row in classes.confusion)
    rows = zip(classes.names, classes.confusion, classes.precision, classes.recall, strict=True)
    return ClassTable(
        columns=[*classes.names, *(["none"] if undecided else [])],
        rows=[
            (name, [count(number) for number in (counts if undecided else counts[:-1])], _percent(precision), _percent(recall))
            for name, counts, precision, recall in rows
        ],
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def estimates(run: RunData) -> list[EstimateRow]:
    """The estimate of a round on each real board, as text; empty for a run without a result or without rounds."""
    if run.result is None or run.result.estimate is None:
        return []
    return [
        (
            board.title,
            f"{board.wire_seconds:.2f} s",
            span(board.training_seconds, "s"),
            span(board.seconds, "s"),
            span([1000 * joules for joules in board.joules], "mJ"),
        )
        for board in run.result.estimate.boards.values()
    ]


def _d_curve(run: RunData, curve: DCurve, scale: Scale) -> Chart | None:
    """The metric of held-out clients by number of adaptation samples; None if all models diverged."""
    points = [(float(i), scale.value(mean)) for i, mean in enumerate(curve.mean)]
    if not any(math.isfinite(y) for _, y in points):
        return None
    errors = [scale.value(half_width if curve.n_clients > 1 else None) for half_width in curve.ci95]
    known = any(math.isfinite(error) for error in errors)
    return chart(
        [Series("mean, 95 % confidence interval" if known else "mean", "after", points, errors, dots=True)],
        curve.samples,
        scale.label,
        f"{scale.title} over {curve.samples}, {tested(curve, 'new ')}",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        x_ticks=[(float(i), str(d)) for i, d in enumerate(curve.d)],
        levels=_guessing(run),
    )


def _example(example: Example) -> Chart:
    """One held-out client's predictions before and after adaptation, over its input or against the true values."""
    who = f"a client never trained on, {example.client}"
    if isinstance(example, CurveExample):
        shots = _points(example.samples_x, example.samples_y)
        return chart(
            [
                Series("truth", "truth", _points(example.x, example.truth)),
                Series("before", "before", _points(example.x, example.before)),
                Series("after", "after", _points(example.x, example.after)),
                Series(f"its {len(shots)} samples", "samples", shots, line=False, dots=True),
            ],
            "x",
            "y",
            f"{who}: before and after adaptation, against the truth",
        )
    true = [_number(value) for value in example.true]
    series = [Series("perfect", "truth", [(end, end) for end in (min(true), max(true))])]
    for role, predicted in (("before", example.before), ("after", example.after)):
        series.append(Series(role, role, _points(example.true, predicted), line=False, dots=True))
    return chart(series, "true", "predicted", f"{who}: predicted against true values, before and after adaptation")


def _points(x: Sequence[Score], y: Sequence[Score]) -> list[Point]:
    return [(_number(at), _number(value)) for at, value in zip(x, y, strict=True)]


def _number(value: Score) -> float:
    return math.nan if value is None else value


def _spread(meta_test: Scores, scale: Scale) -> Chart | None:
    """The scores of all held-out clients, best first."""
    series = []
    for column, role in enumerate(BEFORE_AND_AFTER):
        values = [scale.value(pair[column]) for pair in meta_test.per_task]
        ordered = sorted((v for v in values if math.isfinite(v)), reverse=scale.metric.higher_is_better)
        points = [(float(rank), value) for rank, value in enumerate(ordered, 1)]
        series.append(Series(f"{role} adaptation", role, points))
    if not any(one.points for one in series):
        return None
    return chart(
        series,
        "held-out clients, best first",
        scale.label,
        f"{scale.title} of every held-out client, sorted",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
    )


def _traffic(run: RunData) -> TrafficBars | None:
    """Mean bytes per client and round by direction, with dense float32 weights as a reference."""
    if not run.rounds:
        return None
    amounts = [("weights, to the client", _per_client_round(run, down))]
    amounts.append(("delta, from the client", _per_client_round(run, up)))
    streamed = _per_client_round(run, samples)
    if streamed:
        amounts.append(("samples, both ways", streamed))
    dense = _dense_values(run)
    longest = max([amount for _, amount in amounts] + [dense])
    return TrafficBars(
        bars=[Bar(label, count(amount), round(amount / longest, 4)) for label, amount in amounts],
        dense=Bar("dense float32, one way", count(dense), round(dense / longest, 4)),
        totals=[
            (size(total), name)
            for name, sent in (("to clients", down), ("from clients", up), ("of samples", samples))
            if (total := sum(map(sent, run.rounds)))
        ],
        retries=count(sum(entry.retries for entry in run.rounds)),
        full="" if (full := run.bytes_down_full) is None else size(full),
    )


def _devices(run: RunData) -> list[DeviceRow]:
    """The devices of the run."""
    return [
        DeviceRow(device.url, device.board, device.unique_id, count(device.receive_window), count(device.rounds))
        for device in run.devices
    ]


def _deltas(run: RunData, found: Sequence[BoardDeltas]) -> list[DeltaRow]:
    """The deltas of each board, those that stand out most first."""
    urls = {device.unique_id: device.url for device in run.devices}
    return [
        DeltaRow(
            url=urls[each.board],
            unique_id=each.board,
            rounds=count(each.rounds),
            norm_median=f"{each.norm_median:.3g}",
            norm_largest=f"{each.norm_largest:.3g}",
            cosine=f"{each.cosine:+.2f}",
            shortened=count(each.shortened),
            left_out=count(each.left_out),
            aside=each.aside,
        )
        for each in sorted(found, key=lambda each: (not each.aside, -each.norm_median))
    ]


def _deltas_chart(found: Sequence[BoardDeltas]) -> Chart | None:
    """A point for each board: norm over cosine; None with fewer than two boards."""
    if len(found) < 2:
        return None
    groups: tuple[tuple[str, Role, list[BoardDeltas]], ...] = (
        ("boards", "after", [each for each in found if not each.aside]),
        ("boards set aside", "before", [each for each in found if each.aside]),
    )
    return chart(
        [
            Series(label, role, [(each.cosine, each.norm_median) for each in some], line=False, dots=True)
            for label, role, some in groups
            if some
        ],
        "mean cosine to the way of the weights",
        "median norm, in running medians",
        "norms and cosines of each board's deltas",
        x_range=(-1.0, 1.0),
        log_y=True,
    )


def _interruptions(run: RunData) -> Interruptions | None:
    """Sessions after the first, and contributions that were redone or skipped; None if there are none."""
    resumed = [
        (session.round, "the run was continued" + ("" if session.rounds is None else f", to {count(session.rounds)} rounds"))
        for session in run.sessions[1:]
    ]
    troubled = [
        (entry.round, f"client {part.client} {part.status}: {part.note}")
        for entry in run.rounds
        for part in entry.contributions
        if part.status != "accepted"
    ]
    events = sorted(resumed + troubled, key=lambda event: event[0])
    if not events:
        return None
    statuses = Counter(part.status for entry in run.rounds for part in entry.contributions)
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
