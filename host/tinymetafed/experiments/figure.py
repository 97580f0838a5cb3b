"""Plots as SVG files: ticks of bytes, and the file around a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jinja2

from ..runs.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Chart

_LEGEND_LINE = 14
_TEMPLATES = Path(__file__).parent / "templates"


def decades(exponents: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks at 1, 2, 5, 10, ... bytes within the range, with labels in suitable units."""
    found = []
    for decade in range(math.floor(min(exponents)), math.ceil(max(exponents)) + 1):
        for digit in (1, 2, 5):
            value = digit * 10**decade
            if min(exponents) <= math.log10(value) <= max(exponents):
                unit, factor = ("MB", 10**6) if value >= 10**6 else ("kB", 10**3) if value >= 10**3 else ("B", 1)
                found.append((math.log10(value), f"{value / factor:g} {unit}"))
    return found


def render(drawn: Chart, labels: Sequence[tuple[float, float, str]] = ()) -> str:
    """The SVG file of a chart; ``labels``: texts beside points, as (x, y, text) in SVG units."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    frame = {"width": WIDTH, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM}
    height = HEIGHT + 8 + _LEGEND_LINE * (len(drawn.legend) + 1)
    return templates.get_template("figure.svg.j2").render(chart=drawn, labels=labels, height=height, **frame)
