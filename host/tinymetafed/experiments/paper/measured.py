"""The use cases of the document, their measured rows, and figures as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...learn.comparisons import Difference, paired
from ..sweep import Row, Sweep
from ..sweep.spread import Spread

BASE = "TinyReptile f32"
DEFAULT = "TinyMetaFed P25 i8/f16"
ALONE = ("centralised", "TinyOL on a trained base")  # rows whose rounds are those of one machine, so that nothing travels
ONLINE = ", online"  # the end of the names of rows in which each sample trains once


@dataclass(frozen=True)
class UseCase:
    """A use case of the papers, with the task that represents it here (in ``title``), its sweep, and that of its rates."""

    key: str
    title: str
    sweep: str
    tuning: str = ""

    @property
    def short(self) -> str:
        """The title's first words."""
        return self.title.partition(":")[0].partition(",")[0]


USE_CASES = (
    UseCase("omniglot", "Omniglot, 5 characters", "omniglot", "baselines-omniglot"),
    UseCase("keywords", "Keywords: here 4 spoken digits (FSDD), in the papers 4 words of Speech Commands", "digits"),
    UseCase("presence", "Presence: here a generator of rooms, in the papers proprietary data", "presence"),
)


@dataclass(frozen=True)
class Measured:
    """A sweep's rows by name; ``missing`` says why there are none."""

    title: str
    sweep: Sweep
    rows: Mapping[str, Row]
    missing: str = ""


def difference(row: Row, base: Row) -> Difference:
    """The difference of scores to ``base``, seed by seed."""
    return paired(row.scores, base.scores)


def bytes_of_round(row: Row) -> float | None:
    """Bytes of a round, down and up, all devices together; None for a row without runs, and where nothing travels."""
    if row.bytes_down is None or row.bytes_up is None or row.cell.name in ALONE:
        return None
    return (row.bytes_down + row.bytes_up) or None


def bytes_text(row: Row) -> str:
    """The bytes of a round; "–" without rounds."""
    total = bytes_of_round(row)
    return f"{total:,.0f}" if total else "–"


def share_text(row: Row, base: Row | None) -> str:
    """The bytes of a round as a share of those of ``base``; "–" without rounds."""
    total, whole = bytes_of_round(row), None if base is None else bytes_of_round(base)
    return f"{total / whole:.3f}" if total and whole else "–"


def plus_minus(spread: Spread) -> str:
    """Percent, with the confidence interval over seeds."""
    if spread.mean is None:
        return "–"
    return f"{100 * spread.mean:.1f}" + ("" if spread.ci95 is None else f" ± {100 * spread.ci95:.1f}")


def points(difference: Difference) -> str:
    """A difference in points with its sign and confidence interval."""
    if difference.mean is None:
        return "not measured"
    return signed(difference.mean) + ("" if difference.ci95 is None else f" ± {100 * difference.ci95:.1f}")


def signed(difference: float) -> str:
    """A difference in points with its sign."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"
