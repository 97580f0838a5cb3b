"""Formats numbers for the pages, each in a readable unit and with a suitable number of digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment, OwnStrategySpec

from ...federation.meta_test import by_client, confidence
from ...federation.result import DCurve, Score, Scores
from ...learn.cluster_bootstrap import FEWEST_SHOWN
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
    """Half-width of a meta-test's 95 % confidence interval over independent units; None where there are too few of them.

    Runs of earlier versions have intervals over clients, or over splits of clients, which look too certain; if their scores are
    stored, those of clients are computed again, by Student's t.
    """
    if test.n_independent is not None:
        return test.after_ci95 if test.n_independent >= FEWEST_SHOWN else None
    if test.n_tasks == test.n_clients or not test.per_task:
        return test.after_ci95 if test.n_clients > 1 else None
    worst = test.metric.worst
    before, after = ([worst if score is None else score for score in scores] for scores in zip(*test.per_task, strict=True))
    units = by_client(before, after, test.n_clients)
    return confidence([worst if unit.after is None else unit.after for unit in units])


def tested(meta_test: Scores | DCurve, kind: str = "") -> str:
    """Who was tested: a number of clients, or of splits of the data of fewer clients, and the independent units behind them."""
    tasks, clients = meta_test.n_tasks, meta_test.n_clients
    who = f"{count(clients)} {kind}client{'' if clients == 1 else 's'}"
    if tasks != clients:
        who = f"{count(tasks)} splits of {who}"
    return who if meta_test.n_independent in (None, clients) else f"{who} of {independent(meta_test)}"


def independent(meta_test: Scores | DCurve) -> str:
    """How many independent units were tested, in words, as "2 speakers"."""
    n = meta_test.n_clients if meta_test.n_independent is None else meta_test.n_independent
    return f"{count(n)} {meta_test.unit}{'' if n == 1 else 's'}"


def curve_intervals(curve: DCurve) -> list[float | None]:
    """The half-widths of a curve's intervals; None where there are too few independent units."""
    is_shown = curve.n_clients > 1 if curve.n_independent is None else curve.n_independent >= FEWEST_SHOWN
    return [half_width if is_shown else None for half_width in curve.ci95]


def why_no_interval(meta_test: Scores) -> str:
    """Says why a score has no interval; "" if it has one, or diverged."""
    if interval(meta_test) is not None or meta_test.after is None:
        return ""
    if meta_test.n_independent == 1:
        return f"no confidence interval: all are of 1 {meta_test.unit}"
    return f"no confidence interval: {independent(meta_test)} are too few"


def chance(experiment: Experiment, outputs: int) -> tuple[str, float] | None:
    """Guessing among a classification's classes, for a chart: its label and its accuracy in percent; None for values."""
    if Metric.of(experiment.model.loss) != Metric.ACCURACY:
        return None
    classes = max(2, outputs)  # a single output tells two classes apart
    return f"guessing one of {classes} classes", 100 / classes
