"""What the document claims: each comparison with its number of seeds, its interval and its test, corrected for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...learn.comparisons import Difference, holm, verdict
from ...learn.metric import Metric
from ..sweep import Row
from . import ablation
from .measured import BASE, DEFAULT, ONLINE, USE_CASES, Measured, difference, points
from .published import ABLATION

WORSE = "worse"
_OTHERS = (
    BASE,
    "TinyReptile P25 i8/f16",
    "Reptile f32, 5 devices",
    "FedAvg f32, 5 devices",
    "TinyOL on a trained base",
    "local-only",
    "centralised",
)
# Pairs of rows: the first against the second.
_COMPARED = (
    *((DEFAULT, other) for other in _OTHERS),
    ("TinyReptile P25 i8/f16", BASE),
    ("TinyMetaFed P10 i8/i8", "TinyReptile P10 i8/i8"),
    ("TinyMetaFed P10 i8/i8", BASE),
    (DEFAULT + ONLINE, BASE + ONLINE),
)
_OF_SINE = (
    ("TinyMetaFed P100 f32", BASE),
    ("TinyMetaFed P50 i8/f16", BASE),
    ("TinyMetaFed P50 i8/f16", "TinyReptile P50 i8/f16"),
    ("TinyMetaFed P100 f32, online", "TinyReptile f32, online"),
)
_STEP_PAIRS = ((2, 0), (4, 2))  # steps of the papers' ablation: the first against the second


@dataclass(frozen=True)
class Comparison:
    """Two rows over the same seeds. ``published``: the papers' difference in points; ``steps``: whether it is theirs."""

    case: str
    name: str
    other: str
    metric: Metric
    difference: Difference
    published: float | None = None


@dataclass(frozen=True)
class Claim:
    """A comparison as text."""

    case: str
    text: str
    published: str
    difference: str
    seeds: int
    p: str
    corrected: str
    verdict: str


def claims(cases: Mapping[str, Measured], sine: Measured) -> list[Claim]:
    """All comparisons of the document that were measured, as one family of tests."""
    found = [each for case in USE_CASES for each in _of_case(case.key, case.short, cases[case.key])]
    found += [compared("Sine waves", sine.rows[name], sine.rows[other]) for name, other in _there(sine, _OF_SINE)]
    return tested(found)


def tested(found: Sequence[Comparison]) -> list[Claim]:
    """Comparisons as one family of tests; those that have no p value, of fewer than two seeds, are left out."""
    known = [each for each in found if each.difference.p is not None]
    adjusted = holm([each.difference.p for each in known])
    return [_claim(each, p) for each, p in zip(known, adjusted, strict=True)]


def _of_case(key: str, short: str, measured: Measured) -> list[Comparison]:
    steps, found = ABLATION[key], []
    for suffix in (ONLINE, ""):
        for step, former in _STEP_PAIRS:
            pair = (ablation.STEPS[step] + suffix, ablation.STEPS[former] + suffix)
            published = steps[step].accuracy - steps[former].accuracy
            found += [compared(short, measured.rows[a], measured.rows[b], published) for a, b in _there(measured, [pair])]
    return found + [compared(short, measured.rows[a], measured.rows[b]) for a, b in _there(measured, _COMPARED)]


def _there(measured: Measured, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if all(name in measured.rows for name in pair)]


def compared(case: str, row: Row, other: Row, published: float | None = None) -> Comparison:
    """A row compared with another one, seed by seed."""
    return Comparison(case, row.cell.name, other.cell.name, row.metric, difference(row, other), published)


def _claim(one: Comparison, adjusted: float | None) -> Claim:
    found, in_points = one.difference, one.metric.higher_is_better
    return Claim(
        case=one.case,
        text=f"{one.name} against {one.other}",
        published="–" if one.published is None else f"{one.published:+.1f}",
        difference=points(found) if in_points else f"{found.mean or 0:+.3f} ± {found.ci95 or 0:.3f}",
        seeds=found.n,
        p=_probability(found.p),
        corrected=_probability(adjusted),
        verdict=verdict(found, adjusted, in_points),
    )


def _probability(p: float | None) -> str:
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
