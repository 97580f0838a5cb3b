"""Estimated time, energy and flash wear of a board by round, learned sample, prediction and day; computed, not measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen import protocol
from tinymetafed_codegen.board.board_facts import Board, Estimates
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.memory.work import forward_multiply_accumulates, multiply_accumulates
from tinymetafed_codegen.optional_messages import secure_messages
from tinymetafed_codegen.optional_messages.coded_messages import FIRST_INDEX_BYTES
from tinymetafed_codegen.optional_messages.level_messages import LevelDelta, LoadLevels
from tinymetafed_codegen.options.flash_store import StoreFacts
from tinymetafed_codegen.protocol import SampleSet, payload_capacity, wire_size

from ..learn.codecs.level_load import LeveledWeights
from ..learn.strategies import Strategy
from ..wire.messages import load_bytes, tail_capacity
from .estimate import BITS_PER_BYTE, WITHOUT_SAMPLES

SECONDS_PER_HOUR = 3600
BASIS = (
    "multiply-accumulates times the cycles of one in the emulated examples, bytes at the line's speed, flash writes and erases "
    f"at the flash's documented times, and the chip's documented current over all that; {WITHOUT_SAMPLES}, and without sleep, "
    "sensors, USB and the other parts of the board, which may take more; not measured on a board"
)
Range = tuple[float, float]


@dataclass(frozen=True)
class Cost:
    """What one activity takes; pairs are (low, high). ``seconds`` includes ``flash_seconds``, which is what the store writes.

    ``flash_seconds`` is (0, 0) without a store, and where the board's file has no times of its flash.
    """

    seconds: Range
    flash_seconds: Range
    millijoules: Range


@dataclass(frozen=True)
class Day:
    """What a board does in a day."""

    rounds: float = 24
    learned: float = 100
    predictions: float = 1440


@dataclass(frozen=True)
class DailyEstimate:
    """The estimate of one board's day; ``bytes`` is that of a round in both directions, without samples.

    ``bytes_are_counted``: from a run; otherwise computed from the sizes of weights and delta. ``saves`` and ``flash_bytes`` are
    writes of the store per day; ``flash_years`` is how long the flash lasts with them, None: without limit or store.
    """

    board: str
    title: str
    basis: str
    day: Day
    bytes: float
    bytes_are_counted: bool
    per_round: Cost
    per_learned_sample: Cost
    per_prediction: Cost
    per_day: Cost
    milliampere_hours: Range
    saves: float
    flash_bytes: float
    flash_years: float | None


def daily(
    board: Board, net: Graph, manifest: ModelManifest, strategy: Strategy, day: Day, counted_bytes: float | None = None
) -> DailyEstimate:
    """Estimates a board's day.

    Args:
        board: The board.
        net: The model's graph.
        manifest: The model on the board.
        strategy: Strategy of the experiment.
        day: What the board does.
        counted_bytes: Bytes of a round that a run has counted, both directions, without samples; None to compute them.

    Returns:
        The estimate.

    Raises:
        UsageError: The board's file has no figures to estimate from.
    """
    known, store = board.estimates, manifest.store
    if known is None:
        raise UsageError(
            f"board '{board.name}' has no 'estimates' in {board.file}; name a real board, or add them as docs/boards.md says"
        )
    work = sum(phase.steps * multiply_accumulates(net, phase.variant) for phase in strategy.training())
    forward = forward_multiply_accumulates(net)
    adaptation = strategy.adaptation(max(1, strategy.experiment.task.count(SampleSet.ADAPT)))
    forward *= strategy.experiment.predict.average
    learning = forward + multiply_accumulates(net, adaptation[-1].variant) if adaptation else 0
    size = computed_bytes(manifest, strategy) if counted_bytes is None else counted_bytes
    saves_per_sample = 1 / store.save_every if store is not None and store.save_every else 0.0
    by_round = _save(board, store, store.round_bytes) if store is not None and store.round_bytes else (0.0, 0.0)
    by_sample = _save(board, store, store.weights_bytes) if store is not None else (0.0, 0.0)
    per_round = _cost(known, work, size * BITS_PER_BYTE / board.line.baud, by_round)
    per_sample = _cost(known, learning, 0.0, _times(by_sample, saves_per_sample))
    per_prediction = _cost(known, forward, 0.0, (0.0, 0.0))
    parts = ((per_round, day.rounds), (per_sample, day.learned), (per_prediction, day.predictions))
    per_day = Cost(
        *(
            _sum([_times(getattr(cost, name), count) for cost, count in parts])
            for name in ("seconds", "flash_seconds", "millijoules")
        )
    )
    least, most = known.milliamperes
    saves_of_rounds = day.rounds if store is not None and store.round_bytes else 0.0
    saves = saves_of_rounds + day.learned * saves_per_sample
    written = 0.0 if store is None else saves_of_rounds * store.round_bytes + (saves - saves_of_rounds) * store.weights_bytes
    return DailyEstimate(
        board=board.name,
        title=board.title,
        basis=BASIS + ("" if counted_bytes is not None else _computed(strategy)),
        day=day,
        bytes=size,
        bytes_are_counted=counted_bytes is not None,
        per_round=per_round,
        per_learned_sample=per_sample,
        per_prediction=per_prediction,
        per_day=per_day,
        milliampere_hours=(per_day.seconds[0] * least / SECONDS_PER_HOUR, per_day.seconds[1] * most / SECONDS_PER_HOUR),
        saves=saves,
        flash_bytes=written,
        flash_years=store.years(saves) if store is not None and saves else None,
    )


def computed_bytes(manifest: ModelManifest, strategy: Strategy) -> float:
    """Bytes of a round on the wire, both directions, without samples: each message once, indices of the delta as a bitmap.

    Levels count as packed ones: how many bytes a range code takes, only a run tells.
    """
    window, mac = manifest.receive_window, manifest.mac_bytes
    loaded = _loads(strategy, window, mac)
    loads, down = len(loaded), sum(wire_size(mac + size) for size in loaded)
    n, k = strategy.n_global, strategy.top_k
    indices = 0 if k == n else -(-n // 8)
    sent, pull, entries = (
        protocol.Delta.fixed_size(),
        protocol.Pull.fixed_size(),
        k * strategy.training_recipe().uplink.width + indices,
    )
    further = 0
    if (levels := strategy.spec.uplink_levels) is not None:
        sent = LevelDelta.fixed_size() + FIRST_INDEX_BYTES
        entries = -(-k * levels.bits // BITS_PER_BYTE) + indices
    if strategy.secure_sum is not None:
        sent, pull, entries = secure_messages.Masked.fixed_size(), secure_messages.PullMasked.fixed_size(), 2 * k
        further = wire_size(mac + secure_messages.Open.fixed_size()) + wire_size(mac + secure_messages.Opened.fixed_size())
    room = payload_capacity(window) - mac - sent
    chunks = -(-entries // room) if k else 0
    up = entries + chunks * wire_size(mac + sent) + further
    answers = loads * wire_size(mac + protocol.LoadAnswer.fixed_size()) + 2 * wire_size(mac + protocol.Progress.fixed_size())
    asked = chunks * wire_size(mac + pull)
    asked += wire_size(mac + protocol.Train.fixed_size()) + wire_size(mac + protocol.Await.fixed_size())
    return float(down + up + answers + asked)


def _loads(strategy: Strategy, window: int, mac: int) -> list[int]:
    """Bytes of each message that brings global weights, before framing."""
    segments = strategy.download(np.zeros(strategy.n_global, np.float32))
    levels = segments[0].levels if segments else None
    if levels is not None:
        packed = LeveledWeights.of(segments, dataclasses.replace(levels, is_ranged=False))
        messages = packed.messages(tail_capacity(LoadLevels, window, mac))
        return [LoadLevels.fixed_size() + len(message.data) for message in messages]
    sizes = []
    for segment in segments:
        step = load_bytes(segment.dtype.width, window, mac)
        sizes += [protocol.Load.fixed_size() + len(segment.data[at : at + step]) for at in range(0, len(segment.data), step)]
    return sizes


def _computed(strategy: Strategy) -> str:
    """What computed bytes leave out of what makes a round shorter, for ``DailyEstimate.basis``; "" if nothing."""
    spec = strategy.spec
    shorter = ["strategy.download = 'difference'"] * spec.takes_differences
    shorter += [f"strategy.uplink_coding = '{spec.uplink_coding}'"] * (spec.uplink_coding != "packed")
    shorter += [f"strategy.downlink_coding = '{spec.downlink_coding}'"] * (spec.downlink_coding != "packed")
    if not shorter:
        return ""
    return f"; a round's bytes are those without {' and '.join(shorter)}: estimate a run's folder for those that it counted"


def _save(board: Board, store: StoreFacts, size: int) -> Range:
    """Seconds of one save of ``size`` bytes, with its share of the erases of a slot."""
    storage = board.storage
    if storage is None or storage.write_microseconds is None or storage.erase_milliseconds is None:
        return 0.0, 0.0
    writes, erases = size / storage.write_bytes / 1e6, store.slot_pages / store.saves_per_slot / 1e3
    return _sum([_times(storage.write_microseconds, writes), _times(storage.erase_milliseconds, erases)])


def _cost(known: Estimates, work: int, wire_seconds: float, flash: Range) -> Cost:
    """The cost of multiply-accumulates, a time on the line, and one of the flash."""
    seconds = _sum([known.seconds(work), (wire_seconds, wire_seconds), flash])
    least, most = known.milliamperes
    return Cost(seconds, flash, (seconds[0] * known.volts * least, seconds[1] * known.volts * most))


def _times(pair: Range, factor: float) -> Range:
    return pair[0] * factor, pair[1] * factor


def _sum(pairs: list[Range]) -> Range:
    return sum(low for low, _ in pairs), sum(high for _, high in pairs)
