"""Tables of a run's devices, of their deltas, and of estimates for real boards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...federation.standing import BoardDeltas
from ..charts import Chart, Role, Series, chart
from ..estimate import RoundEstimate
from ..lateness import late_boards
from ..run_data import RunData
from .wording import count, duration, span


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
class LateRow:
    """A board that was late, as text: how many rounds ended without it, and in how many of them it was away."""

    device: str
    rounds: str
    away: str
    longest: str


EstimateRow = tuple[str, str, str, str, str]  # board, time on the line, time training, both together, energy


def estimates(estimate: RoundEstimate | None) -> list[EstimateRow]:
    """The estimate of a round on each real board, as text; empty without one."""
    if estimate is None:
        return []
    return [
        (
            board.title,
            f"{board.wire_seconds:.2f} s",
            span(board.training_seconds, "s"),
            span(board.seconds, "s"),
            span([1000 * joules for joules in board.joules], "mJ"),
        )
        for board in estimate.boards.values()
    ]


def late_rows(run: RunData) -> list[LateRow]:
    """The boards that were late."""
    return [
        LateRow(
            each.device,
            count(each.rounds),
            count(each.away),
            "not back" if each.longest is None else duration(each.longest),
        )
        for each in late_boards(run.rounds)
    ]


def device_rows(run: RunData) -> list[DeviceRow]:
    """The devices of the run."""
    return [
        DeviceRow(device.url, device.board, device.unique_id, count(device.receive_window), count(device.rounds))
        for device in run.devices
    ]


def delta_rows(run: RunData, found: Sequence[BoardDeltas]) -> list[DeltaRow]:
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


def deltas_chart(found: Sequence[BoardDeltas]) -> Chart | None:
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
        "mean cosine to the direction of the weights",
        "median norm, in running medians",
        "norms and cosines of each board's deltas",
        x_range=(-1.0, 1.0),
        log_y=True,
    )
