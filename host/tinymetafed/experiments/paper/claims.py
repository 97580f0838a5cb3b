"""What the document claims: each comparison with its number of seeds, its interval and its test, corrected for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...learn.metric import Metric
from ...learn.paired_test import holm, p_value
from ..sweep import Row
from ..sweep.table import Spread
from . import ablation
from .measured import BASE, DEFAULT, ONLINE, USE_CASES, Measured, paired, points
from .published import ABLATION

WORSE = "**worse**"
LEVEL = 0.05  # a difference counts as shown below this corrected p value
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
    differences: tuple[float, ...]
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
    found += [_compared("Sine waves", sine.rows[name], sine.rows[other]) for name, other in _there(sine, _OF_SINE)]
    known = [(each, p) for each in found if (p := p_value(each.differences)) is not None]
    corrected = holm([p for _, p in known])
    return [_claim(each, p, q) for (each, p), q in zip(known, corrected, strict=True)]


def _of_case(key: str, short: str, measured: Measured) -> list[Comparison]:
    steps, found = ABLATION[key], []
    for suffix in (ONLINE, ""):
        for step, former in _STEP_PAIRS:
            pair = (ablation.STEPS[step] + suffix, ablation.STEPS[former] + suffix)
            published = steps[step].accuracy - steps[former].accuracy
            found += [_compared(short, measured.rows[a], measured.rows[b], published) for a, b in _there(measured, [pair])]
    return found + [_compared(short, measured.rows[a], measured.rows[b]) for a, b in _there(measured, _COMPARED)]


def _there(measured: Measured, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if all(name in measured.rows for name in pair)]


def _compared(case: str, row: Row, other: Row, published: float | None = None) -> Comparison:
    return Comparison(case, row.cell.name, other.cell.name, row.metric, tuple(paired(row, other)), published)


def _claim(compared: Comparison, p: float, corrected: float) -> Claim:
    spread = Spread.of(compared.differences)
    assert spread.mean is not None
    in_points = compared.metric.higher_is_better
    difference = points(spread) if in_points else f"{spread.mean:+.3f} ± {spread.ci95 or 0:.3f}"
    return Claim(
        case=compared.case,
        text=f"{compared.name} against {compared.other}",
        published="–" if compared.published is None else f"{compared.published:+.1f}",
        difference=difference,
        seeds=len(compared.differences),
        p=_probability(p),
        corrected=_probability(corrected),
        verdict=verdict(spread.mean if in_points else -spread.mean, corrected),
    )


def verdict(gain: float, corrected: float) -> str:
    """What a comparison shows: "better" or "worse" where it is below LEVEL, otherwise "no difference shown"."""
    if corrected >= LEVEL:
        return "no difference shown"
    return "better" if gain > 0 else WORSE


def _probability(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
