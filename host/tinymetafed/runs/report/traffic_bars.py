"""The bytes of a run on the wire, by direction, compared with dense weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...federation.result import Evaluation
from ..journal import RoundEntry
from ..run_data import RunData
from .arena import Bar
from .wording import count, size


@dataclass(frozen=True)
class TrafficBars:
    """Mean bytes per client and round by direction, the bytes of dense float32 weights, and totals of the run."""

    bars: list[Bar]
    dense: Bar
    totals: list[tuple[str, str]]
    retries: str
    full: str  # bytes to clients with all weights in place of differences; "" without a download by difference


def down(entry: RoundEntry) -> int:
    """Bytes of a round to its clients, without samples."""
    return entry.bytes_down


def up(entry: RoundEntry) -> int:
    """Bytes of a round from its clients, without samples."""
    return entry.bytes_up


def samples(entry: RoundEntry) -> int:
    """Bytes of a round's samples, both directions."""
    return entry.bytes_samples


def per_client_round(run: RunData, sent: Callable[[RoundEntry], int]) -> float:
    """Mean bytes per client and round, over all rounds."""
    return float(sum(map(sent, run.rounds)) / max(sum(len(entry.contributions) for entry in run.rounds), 1))


def dense_values(run: RunData) -> float:
    """Bytes of all global weights as float32, without framing."""
    return 4.0 * float(run.manifest.n_global)


def wire_bytes(run: RunData, evaluation: Evaluation) -> float:
    """Bytes sent in both directions before an evaluation, samples included."""
    streamed = sum(samples(entry) for entry in run.rounds[: evaluation.round])
    return float(evaluation.bytes_down + evaluation.bytes_up + streamed)


def traffic_bars(run: RunData) -> TrafficBars | None:
    """Mean bytes per client and round by direction, with dense float32 weights as a reference."""
    if not run.rounds:
        return None
    amounts = [("weights, to the client", per_client_round(run, down))]
    amounts.append(("delta, from the client", per_client_round(run, up)))
    streamed = per_client_round(run, samples)
    if streamed:
        amounts.append(("samples, both ways", streamed))
    dense = dense_values(run)
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
