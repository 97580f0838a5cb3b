"""Formats numbers for the pages, each in a readable unit and with a suitable number of digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment, OwnStrategySpec

from ...federation.meta_test import over_clients
from ...federation.result import DCurve, Score, Scores
from ...learn.metric import Metric


@dataclass(frozen=True)
class Scale:
    """How a metric is shown: accuracy in percent, MSE as a plain number."""

    metric: Metric

    @property
    def in_percent(self) -> bool:
        """Whether scores are shown in percent."""
        return self.metric == Metric.ACCURACY

    @property
    def y_range(self) -> tuple[float, float] | None:
        """Range of a chart's axis; None for a logarithmic axis with the range of the points."""
        return (0, 100) if self.in_percent else None

    @property
    def label(self) -> str:
        """Axis title."""
        return "accuracy (%)" if self.in_percent else "mean squared error"

    @property
    def title(self) -> str:
        """Name in running text."""
        return self.metric.caption

    def value(self, raw: Score) -> float:
        """The number to plot; NaN for a diverged model."""
        number = math.nan if raw is None else float(raw)
        return number * 100 if self.in_percent else number

    def text(self, raw: Score) -> str:
        """The number to print."""
        number = self.value(raw)
        if not math.isfinite(number):
            return "diverged"
        return f"{number:.1f} %" if self.in_percent else f"{number:.3g}" if number < 1000 else f"{number:.1e}"

    def mean(self, raw: Score, half_width: float | None) -> str:
        """A mean with the half-width of its interval, where it has one."""
        if half_width is None or not math.isfinite(self.value(raw)):
            return self.text(raw)
        unit = " %" if self.in_percent else ""
        return f"{self.text(raw).removesuffix(' %')} ± {self.text(half_width).removesuffix(' %')}{unit}"


def count(number: float) -> str:
    """A whole number with thousands separators."""
    return f"{number:,.0f}"


def uses(experiment: Experiment) -> str:
    """How many times a device trains on a sample of a round; "" without rounds, and for a strategy of the user's own."""
    if experiment.run.rounds == 0 or isinstance(experiment.strategy, OwnStrategySpec):
        return ""
    if experiment.task.online:
        return "each sample trains once and is not kept"
    support, query = ("once" if passes == 1 else f"{passes} times" for passes in experiment.strategy.uses)
    return f"each sample trains {support}" if support == query else f"a support sample trains {support}, a query sample {query}"


def size(number: float) -> str:
    """A number of bytes in a suitable unit."""
    if number < 10_000:
        return f"{number:,.0f} bytes"
    unit, factor = next((u, f) for u, f in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)) if number < 1000 * f or u == "GB")
    return f"{number / factor:,.1f} {unit}"


def byte_unit(most: float) -> tuple[str, float]:
    """The unit for an axis up to ``most`` bytes, and the bytes of one unit."""
    return next((unit, factor) for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0)) if most >= factor)


def span(ends: Sequence[float], unit: str) -> str:
    """A range from low to high, with two digits each; a single number if both look the same."""
    low, high = (f"{end:.2g}" if abs(end) < 100 else f"{end:,.0f}" for end in ends)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def sentence(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """A duration in suitable units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def interval(test: Scores) -> float | None:
    """Half-width of a meta-test's 95 % confidence interval over clients; None where it was over splits of a single one.

    Runs of earlier versions have intervals over splits of clients, which look too certain; those are computed again.
    """
    if test.n_tasks == test.n_clients or not test.per_task:
        return test.after_ci95 if test.n_clients > 1 else None
    return over_clients([test.metric.worst if after is None else after for _, after in test.per_task], test.n_clients)


def tested(meta_test: Scores | DCurve, kind: str = "") -> str:
    """Who was tested: a number of clients, or of splits of the data of fewer clients."""
    tasks, clients = meta_test.n_tasks, meta_test.n_clients
    who = f"{count(clients)} {kind}client{'' if clients == 1 else 's'}"
    return who if tasks == clients else f"{count(tasks)} splits of {who}"


def chance(experiment: Experiment, outputs: int) -> tuple[str, float] | None:
    """Guessing among a classification's classes, for a chart: its label and its accuracy in percent; None for values."""
    if Metric.of(experiment.model.loss) != Metric.ACCURACY:
        return None
    classes = max(2, outputs)  # a single output tells two classes apart
    return f"guessing one of {classes} classes", 100 / classes
