"""Cuts recordings into windows: never over a gap, each of one label or with the label of most of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from .. import Floats
from .file_table import Bools, Doubles, Indices

# A recording may become so many rows, or so many times its own, at task.rate; the last is the largest number in a message.
_MANY_ROWS, _MOST_TIMES, _MOST_ROWS = 10**6, 100, 10**18
_SAME_TIME = 1e-6  # times that differ by less, in steps, are the same time, written with rounding
USUAL_STEPS = 5  # a longer step than so many median steps is a gap, where task.largest_gap does not say it
WindowLabel = Literal["pure", "majority"]


@dataclass(frozen=True, slots=True)
class Recording:
    """Rows over time of one client in one file.

    Attributes:
        values: float32 [rows, channels].
        targets: float32 [rows, target_size]; for a class, its index.
        time: float64 [rows], in seconds; None without times.
        breaks: bool [rows]: whether a row does not follow the row before it.
    """

    values: Floats
    targets: Floats
    time: Doubles | None
    breaks: Bools

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int) -> Recording:
        """The rows from ``start`` to before ``end``."""
        time = None if self.time is None else self.time[start:end]
        return Recording(self.values[start:end], self.targets[start:end], time, self.breaks[start:end])


@dataclass(frozen=True, slots=True)
class Gap:
    """A step over more time than the largest gap allows, or back in time: the row after it, its length in seconds."""

    row: int
    seconds: float


def median_step(time: Doubles) -> float:
    """The median of the steps of time that are above 0; 0 if there are none."""
    steps = np.diff(time)
    forward = steps[steps > 0]
    return float(np.median(forward)) if len(forward) else 0.0


def gaps(recording: Recording, largest: float | None) -> list[Gap]:
    """The gaps in a recording's time.

    Args:
        recording: The recording.
        largest: The longest step in seconds that is no gap; None for USUAL_STEPS median steps.

    Returns:
        The gaps, in order of rows; empty without times.
    """
    if recording.time is None:
        return []
    limit = USUAL_STEPS * median_step(recording.time) if largest is None else largest
    steps = np.diff(recording.time)
    # A hair more, because times in seconds are rounded.
    return [Gap(int(i) + 1, float(steps[i])) for i in np.flatnonzero((steps > limit * (1 + 1e-9)) | (steps < 0))]


def segments(recording: Recording, largest_gap: float | None) -> list[Recording]:
    """The parts of a recording between gaps and breaks."""
    broken = recording.breaks.copy()
    broken[[gap.row for gap in gaps(recording, largest_gap)]] = True
    broken[:1] = False
    ends = [0, *np.flatnonzero(broken).tolist(), len(recording)]
    return [recording.part(start, end) for start, end in pairwise(ends) if end > start]


def too_many_rows(segment: Recording, rate: float) -> int:
    """The rows of a segment at a rate if they are so many that its times must be wrong; 0 if they are not."""
    assert segment.time is not None
    rows = float(segment.time[-1] - segment.time[0]) * rate
    return int(min(rows, _MOST_ROWS)) if rows > max(_MANY_ROWS, _MOST_TIMES * len(segment)) else 0


def resampled(segment: Recording, rate: float) -> Recording:
    """A segment at a constant rate: values interpolated linearly, each target that of the row nearest in time.

    Args:
        segment: Rows without a gap, with times.
        rate: Rows per second.

    Returns:
        Rows at the times first, first + 1 / rate, … up to the last. Rows that are at these times already stay as they are.
    """
    assert segment.time is not None
    since = segment.time - segment.time[0]
    count = int(np.floor(since[-1] * rate * (1 + 1e-12))) + 1
    at = np.arange(count) / rate
    if count == len(since) and np.abs(at - since).max() * rate < _SAME_TIME:
        return segment
    values = np.stack([np.interp(at, since, channel) for channel in segment.values.T], axis=1).astype(np.float32)
    after = np.clip(np.searchsorted(since, at), 0, len(since) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(at - since[before] <= since[after] - at, before, after)
    return Recording(values, segment.targets[nearest], segment.time[0] + at, np.zeros(count, bool))


def filled(segment: Recording) -> Recording:
    """A segment with missing values (NaN) interpolated linearly over time, or over rows; at its ends the nearest value.

    A channel without any value stays missing.
    """
    if not np.isnan(segment.values).any():
        return segment
    values = segment.values.copy()
    at = np.arange(len(values), dtype=np.float64) if segment.time is None else segment.time
    for channel in values.T:
        missing = np.isnan(channel)
        if missing.any() and not missing.all():
            channel[missing] = np.interp(at[missing], at[~missing], channel[~missing])
    return Recording(values, segment.targets, segment.time, segment.breaks)


def runs(segment: Recording) -> Indices:
    """Rows at which a run of equal targets begins, and the number of rows; int64 [runs + 1]."""
    targets = segment.targets
    changes = (targets[1:] != targets[:-1]).any(axis=1)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [len(targets)]])


def window_starts(segment: Recording, window: int, stride: int, label: WindowLabel | None) -> Indices:
    """The first rows of the windows of a segment.

    Args:
        segment: Rows without a gap.
        window: Rows of a window.
        stride: Rows from one window to the next.
        label: "pure": within runs of one target, from the beginning of each; "majority", or None for targets that are
            values: from the beginning of the segment.

    Returns:
        int64 [windows].
    """
    ends = runs(segment) if label == "pure" else np.array([0, len(segment)])
    starts = [np.arange(first, end - window + 1, stride) for first, end in pairwise(ends.tolist())]
    return np.concatenate([np.empty(0, np.int64), *starts]).astype(np.int64)


def cut(segment: Recording, window: int, stride: int, label: WindowLabel | None) -> tuple[Floats, Floats]:
    """The windows of a segment.

    Args:
        segment: Rows without a gap.
        window: Rows of a window.
        stride: Rows from one window to the next.
        label: As for ``window_starts``.

    Returns:
        Values float32 [windows, window, channels]; and targets float32 [windows, target_size]: the label of the run, the most
        frequent label (of equals the lowest class), or the values of the last row.
    """
    starts = window_starts(segment, window, stride, label)
    rows = starts[:, None] + np.arange(window)
    if label == "majority":
        classes = segment.targets[:, 0].astype(np.int64)
        targets = np.array([[np.bincount(classes[each]).argmax()] for each in rows], np.float32).reshape(-1, 1)
    else:
        targets = segment.targets[starts + window - 1]
    return segment.values[rows], targets
