"""The papers' ablation: a step at a time, our figures next to the published ones."""

from __future__ import annotations

from dataclasses import dataclass

from ...learn.comparisons import Difference
from ..sweep import Row, table
from .measured import ONLINE, Measured, UseCase, bytes_text, difference, plus_minus, share_text, signed
from .published import ABLATION, WEIGHTS, Step

STEPS = (
    "TinyReptile f32, constant rate",
    "TinyMetaFed P100 f32, constant rate",
    "TinyMetaFed P100 f32, SGDR",
    "TinyMetaFed P75 f32, SGDR",
    "TinyMetaFed P50 f32, SGDR",
)
_MARGIN = 1.0  # a difference of so many points of accuracy counts as none


@dataclass(frozen=True)
class AblationLine:
    """A line of an ablation table as text: the paper's figures, ours, and whether they agree."""

    name: str
    published: str
    published_cost: str
    accuracy: str
    difference: str
    cost: str
    bytes: str
    share: str
    seeds: str
    verdict: str


@dataclass(frozen=True)
class AblationTable:
    """The ablation of a use case as text. ``weights``: of the papers' network and of ours."""

    title: str
    weights: tuple[str, str]
    lines: list[AblationLine]


def tables(case: UseCase, measured: Measured) -> list[AblationTable]:
    """The ablations of a use case that were measured: with each sample once, as in the papers, and with our passes."""
    found = []
    for suffix, how in ((ONLINE, "each sample once, as in the papers"), ("", "several passes, as in our examples")):
        rows = [measured.rows.get(name + suffix) for name in STEPS]
        if (base := rows[0]) is None:
            continue
        steps = ABLATION[case.key]
        lines = [_line(row, base, step, steps[0]) for row, step in zip(rows, steps, strict=True) if row is not None]
        weights = f"{WEIGHTS[case.key]:,}", f"{base.cell.manifest.n_parameters:,}"
        found.append(AblationTable(f"{case.short}, {how}", weights, lines))
    return found


def _line(row: Row, base: Row, step: Step, first: Step) -> AblationLine:
    apart = difference(row, base)
    return AblationLine(
        name=step.name,
        published=f"{step.accuracy:.1f}",
        published_cost=f"{step.cost:.2f}",
        accuracy=plus_minus(row.after),
        difference="–" if row is base or apart.mean is None else signed(apart.mean),
        cost=f"{row.cost:.2f}",
        bytes=bytes_text(row),
        share=share_text(row, base),
        seeds=f"{len(row.scores)} of {row.seeds}",
        verdict=verdict(apart, step, first) if row is not base else "–",
    )


def verdict(difference: Difference, step: Step, first: Step) -> str:
    """Whether a step changes accuracy as in the papers.

    Args:
        difference: Measured differences of accuracy (0 to 1) to the first step.
        step: The step in the paper.
        first: The first step in the paper.

    Returns:
        "yes" within 1 point; "undecided" if the paper's difference is within the confidence interval; otherwise "no, better"
        or "no, worse".
    """
    if difference.mean is None:
        return "not measured"
    ours, theirs = 100 * difference.mean, step.accuracy - first.accuracy
    if abs(ours - theirs) <= _MARGIN:
        return "yes"
    if difference.ci95 is None or abs(ours - theirs) <= 100 * difference.ci95:
        return "undecided"
    return "no, better" if ours > theirs else "no, worse"


def notes(measured: Measured) -> list[str]:
    """Which of a sweep's rows are incomplete."""
    return table.notes(list(measured.rows.values()))
