"""Layout of charts in SVG units: axes, ticks, curves; the template only prints the result."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Role = str  # CSS class that gives the colour: after, before, truth, samples, final, chance; run1 to run8 on the comparison page
MAX_POINTS = 400  # of a curve; of more points only every second, third, ... and the last are drawn
WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 26, 46
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
WIDE = 8  # values are drawn on a logarithmic scale if the largest is more than so many times the smallest
MAX_DECADES = 8  # with a tick; of more decades every second, third, ... has one
NARROW = 1e-9  # a range that is a smaller share of its ends is widened
LEAST = 1e-300  # a smaller range is widened too, because the step between ticks would underflow
MOST = sys.float_info.max


@dataclass(frozen=True)
class Axis:
    """An axis that maps data from ``low`` to ``high`` to SVG units from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """SVG coordinate of a value, clamped to the axis."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        # Halved, because the difference of two huge numbers may be infinite.
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers within the axis, as (SVG coordinate, label)."""
        if self.log and self.high > WIDE * self.low:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            digits = (1, 2, 5) if self.high < 500 * self.low else (1,)
            decades = range(first, last + 1, -(-(last - first) // MAX_DECADES) or 1)
            values = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        else:
            step = _round_step(self.high / 5 - self.low / 5)
            first = math.ceil(self.low / step)
            values = [i * step for i in range(first, math.floor(self.high / step) + 1)]
        inside = [value for value in values if self.low <= value <= self.high]
        return [(self.at(value), f"{value:,.10g}".replace("-", "−")) for value in inside]


def _round_step(least: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least * 0.999)


def _axis(low: float, high: float, start: float, end: float, log: bool) -> Axis:
    """An axis whose range is finite and has two clearly different ends."""
    low, high = max(low, math.ulp(0) if log else -MOST), min(high, MOST)
    if log and high <= max(low * (1 + NARROW), LEAST):
        low, high = max(low / 2, math.ulp(0)), min(max(high * 2, LEAST), MOST)
    elif not log and high - low < max(LEAST, NARROW * max(abs(low), abs(high))):
        margin = max(1.0, abs(low) / 1000)
        low, high = max(low - margin, -MOST), min(high + margin, MOST)
    return Axis(low, high, start, end, log)


@dataclass(frozen=True)
class Series:
    """A curve in data units; ``errors`` are half-widths of 95 % confidence intervals."""

    label: str
    role: Role
    points: Sequence[Point]
    errors: Sequence[float] = ()
    line: bool = True
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A reference value: a horizontal line over the whole width."""

    label: str
    role: Role
    y: float


@dataclass(frozen=True)
class Chart:
    """A finished chart in SVG units."""

    summary: str
    x_label: str
    y_label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[tuple[Role, str]]
    dots: Sequence[tuple[Role, float, float]]
    whiskers: Sequence[tuple[Role, float, float, float]]
    legend: Sequence[tuple[Role, str, bool]]


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    summary: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    log_x: bool = False,
    levels: Sequence[Level] = (),
    shared: Sequence[float] = (),
) -> Chart:
    """Lays out a chart.

    Points that are not finite are left out; with a logarithmic x axis those with x <= 0 too.

    Args:
        series: The curves.
        x_label: Title of the x axis.
        y_label: Title of the y axis.
        summary: Text for screen readers.
        x_range: Ends of the x axis; None for those of the data.
        y_range: Ends of the y axis; None for those of the data.
        log_y: Use a logarithmic y axis if all values are positive and their range is large enough.
        x_ticks: Ticks as (value, label) instead of round numbers.
        log_x: Use a logarithmic x axis.
        levels: Reference values; those that are not finite are left out.
        shared: Values of other charts; charts with the same ``shared`` values, their own among them, get the same y axis.

    Returns:
        The chart.
    """

    def is_drawn(x: float, y: float) -> bool:
        return math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x)

    finite = [[(x, y) for x, y in one.points if is_drawn(x, y)] for one in series]
    xs = [x for points in finite for x, _ in points] or [1.0]
    levels = [level for level in levels if math.isfinite(level.y)]
    others = [*(level.y for level in levels), *(y for y in shared if math.isfinite(y))]
    ys = [y for points in finite for _, y in points] + others or [1.0]
    log_y = log_y and min(ys) > 0 and max(ys) > WIDE * min(ys)
    low, high = y_range or _y_range(ys, log_y)
    left, right = x_range or (min(xs), max(xs))
    if log_x:
        left, right = left / 1.05, right * 1.05
    else:
        margin = right / 50 - left / 50
        left, right = left - margin, right + margin
    x_axis = _axis(left, right, LEFT, WIDTH - RIGHT, log_x)
    y_axis = _axis(low, high, HEIGHT - BOTTOM, TOP, log_y)
    lines: list[tuple[Role, str]] = []
    dots: list[tuple[Role, float, float]] = []
    whiskers: list[tuple[Role, float, float, float]] = []
    for level in levels:
        y = y_axis.at(level.y)
        lines.append((f"level {level.role}", f"{LEFT},{y} {WIDTH - RIGHT},{y}"))
    for one, points in zip(series, finite, strict=True):
        if one.line and len(points) > 1:
            path = " ".join(f"{x_axis.at(x)},{y_axis.at(y)}" for x, y in _thinned(points))
            lines.append((one.role, path))
        if one.dots or len(points) == 1:
            dots += [(one.role, x_axis.at(x), y_axis.at(y)) for x, y in points]
        for (x, y), error in zip(one.points, one.errors, strict=False):
            if is_drawn(x, y) and math.isfinite(error) and error:
                whiskers.append((one.role, x_axis.at(x), y_axis.at(y - error), y_axis.at(y + error)))
    return Chart(
        summary=summary,
        x_label=x_label + (", logarithmic" if log_x else ""),
        y_label=y_label + (", logarithmic" if log_y else ""),
        x_ticks=[(x_axis.at(x), text) for x, text in x_ticks] if x_ticks else x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        lines=lines,
        dots=dots,
        whiskers=whiskers,
        legend=[
            *((one.role, one.label, one.line) for one in series),
            *((f"level {level.role}", level.label, True) for level in levels),
        ],
    )


def _y_range(ys: Sequence[float], log: bool) -> tuple[float, float]:
    """A range somewhat larger than that of the values; a linear one contains 0."""
    if log:
        return min(ys) / 1.3, max(ys) * 1.15
    low, high = min(0.0, min(ys) * 1.08), max(0.0, max(ys) * 1.08)
    return (low, high) if high - low >= LEAST else (low, low + 1)


def _thinned(points: Sequence[Point]) -> list[Point]:
    step = -(-len(points) // MAX_POINTS)
    return [*points[::step], points[-1]] if step > 1 else list(points)
