"""Writes docs/robust.md: what defences there are, and the Byzantine table as measured; its summary into docs/security.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tinymetafed_codegen import __version__
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.messages.protocol_document import filled, place

from ...federation.audit import MOST_REFUTED, PROVEN
from ...federation.result import Score
from ...federation.standing import APART, BETWEEN, ERRORS, FEWEST, FEWEST_BOARDS, LATEST, LONG
from ...learn.defence import FIRST_NORMS, FIRST_SHARE, NORMS
from .attacks import ATTACKS, LITTLE
from .byzantine_table import AUDIT, HONEST, MANY, NONE, ONE_BY_ONE, RECOMMENDED, TASKS, TOGETHER, Outcome

DOCUMENT, OUTCOMES = "robust.md", "robust.json"
SECURITY, SUMMARY = "security.md", "byzantine"  # the page beside it that has the summary, and the name of its table there
POINTS, FACTOR = 2.0, 1.3  # most that 20 % of liars may cost with RECOMMENDED: points of accuracy, and times the MSE
HONEST_POINTS = 0.5  # and where nobody lies
_TEMPLATES = Path(__file__).parent / "templates"
_TITLES = {"sine": "Sine waves, MSE", "omniglot": "Omniglot, 5 characters, accuracy"}


@dataclass(frozen=True)
class Table:
    """Scores by attack and defence, as text. ``aside``: how many liars and honest boards each defence set aside, in words."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    aside: str


@dataclass(frozen=True)
class Verdict:
    """The largest loss with the recommended defence, as text, and whether it is within the target."""

    what: str
    worst: str
    target: str
    met: bool


def write(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Writes the page, and the summary into security.md beside it, where that has a place for it.

    Args:
        outcomes: What the runs came to.
        folder: An existing folder.

    Returns:
        The page's path.
    """
    path = folder / DOCUMENT
    write_if_changed(path, page(outcomes))
    security = folder / SECURITY
    if security.is_file() and place(SUMMARY) in (text := security.read_text(encoding="utf-8")):
        write_if_changed(security, filled(text, {SUMMARY: summary(outcomes)}))
    return path


def summary(outcomes: Sequence[Outcome]) -> str:
    """The table of the largest losses with the recommended defence, as Markdown."""
    verdicts = [verdict for task in _tasks(outcomes) for verdict in _verdicts(outcomes, task)]
    return "\n" + _environment().get_template("verdicts.md.j2").render(verdicts=verdicts, recommended=RECOMMENDED) + "\n"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _tasks(outcomes: Sequence[Outcome]) -> list[str]:
    there = {each.case.task for each in outcomes}
    return [task for task in TASKS if task in there]


def page(outcomes: Sequence[Outcome]) -> str:
    """The page as Markdown."""
    there = {(each.case.task, each.case.clients) for each in outcomes}
    groups = [(task, clients) for task in TASKS for clients in (1, MANY) if (task, clients) in there]
    return (
        _environment()
        .get_template(f"{DOCUMENT}.j2")
        .render(
            version=__version__,
            tables=[table for task, clients in groups for table in _tables(outcomes, task, clients)],
            verdicts=[verdict for task in _tasks(outcomes) for verdict in _verdicts(outcomes, task)],
            seeds=max(each.case.seed for each in outcomes),
            recommended=RECOMMENDED,
            repeated=_repeated(outcomes),
            facts={
                "audit": AUDIT,
                "little": LITTLE,
                "many": MANY,
                "norms": NORMS,
                "first_norms": FIRST_NORMS,
                "first_share": f"{FIRST_SHARE:.0%}".replace("%", " %"),
                "latest": LATEST,
                "fewest": FEWEST,
                "fewest_boards": FEWEST_BOARDS,
                "long": f"{LONG:g}",
                "apart": f"{APART:g}",
                "errors": f"{ERRORS:g}",
                "between": f"{BETWEEN:g}",
                "proven": PROVEN,
                "refuted": MOST_REFUTED,
            },
        )
    )


def _tables(outcomes: Sequence[Outcome], task: str, clients: int) -> list[Table]:
    """One table for each number of boards and liars; where nobody lies is the first row of each."""
    some = [each for each in outcomes if (each.case.task, each.case.clients) == (task, clients)]
    tables = []
    for boards, liars in sorted({(each.case.boards, each.case.liars) for each in some if each.case.liars}):
        fleet = [each for each in some if each.case.boards == boards and each.case.liars in (0, liars)]
        defences = [
            name for name in (ONE_BY_ONE if clients == 1 else TOGETHER) if any(each.case.defence == name for each in fleet)
        ]
        attacks = [name for name in (HONEST, *ATTACKS) if any(each.case.attack == name for each in fleet)]
        lying = f"{liars} of {boards} boards {'lie' if liars > 1 else 'lies'}"
        per_round = "one client per round" if clients == 1 else f"{clients} clients per round"
        tables.append(
            Table(
                title=f"{_TITLES[task]}: {lying}, {per_round}, {some[0].case.rounds:,} rounds",
                columns=defences,
                rows=[(attack, [_cell(fleet, attack, defence) for defence in defences]) for attack in attacks],
                aside=_aside(fleet, defences),
            )
        )
    return tables


def _cell(fleet: Sequence[Outcome], attack: str, defence: str) -> str:
    """The mean over seeds, and what it lost against honest boards without a defence; "–" where it was not run."""
    if not _scores(fleet, attack, defence):
        return "–"
    score = _mean(fleet, attack, defence)
    if score is None:
        return "dead"
    lost = _lost(fleet, attack, defence)
    if fleet[0].case.task == "sine":
        text = f"{score:,.2f}" if score < 1_000 else f"{score:.1g}"
        return text if (attack, defence) == (HONEST, NONE) else f"{text} (x{lost:,.2f})" if lost < 100 else text
    return f"{100 * score:.1f} %" + ("" if (attack, defence) == (HONEST, NONE) else f" ({-lost:+.1f})".replace("-", "−"))


def _scores(fleet: Sequence[Outcome], attack: str, defence: str) -> list[Score]:
    return [each.score for each in fleet if (each.case.attack, each.case.defence) == (attack, defence)]


def _mean(fleet: Sequence[Outcome], attack: str, defence: str) -> float | None:
    scores = _scores(fleet, attack, defence)
    known = [score for score in scores if score is not None]
    return math.fsum(known) / len(known) if len(known) == len(scores) and known else None


def _lost(fleet: Sequence[Outcome], attack: str, defence: str) -> float:
    """Times the MSE, or points of accuracy, against honest boards without a defence; infinite for runs that died."""
    score, clean = _mean(fleet, attack, defence), _mean(fleet, HONEST, NONE)
    if score is None or clean is None:
        return math.inf
    return score / clean if fleet[0].case.task == "sine" else 100 * (clean - score)


def _aside(fleet: Sequence[Outcome], defences: Sequence[str]) -> str:
    """Which share of the liars and of the honest boards each defence set aside, in words."""
    parts = []
    for defence in defences:
        runs = [each for each in fleet if each.case.defence == defence]
        liars, honest = sum(each.case.liars for each in runs), sum(each.case.boards - each.case.liars for each in runs)
        out, wrong = sum(each.liars_out for each in runs), sum(each.honest_out for each in runs)
        if out or wrong:
            parts.append(f"with {defence} {out} of {liars} liars and {wrong} of {honest} honest boards")
    return f"Set aside over all runs of this table: {'; '.join(parts)}." if parts else ""


def _verdicts(outcomes: Sequence[Outcome], task: str) -> list[Verdict]:
    """The recommended defence against the targets: with a fifth of liars, and without any."""
    some = [each for each in outcomes if each.case.task == task and each.case.clients == 1]
    found = []
    for boards, liars in ((5, 1), (20, 4)):
        fleet = [each for each in some if each.case.boards == boards and each.case.liars in (0, liars)]
        for attacks, honest in (([HONEST], True), (list(dict.fromkeys(e.case.attack for e in fleet if e.case.liars)), False)):
            run = [attack for attack in attacks if _scores(fleet, attack, RECOMMENDED) and _scores(fleet, HONEST, NONE)]
            losses = {attack: _lost(fleet, attack, RECOMMENDED) for attack in run}
            if not losses:
                continue
            attack, lost = max(losses.items(), key=lambda item: item[1])
            who = f"{_TITLES[task]}, {'none' if honest else liars} of {boards} boards {'lie' if liars > 1 else 'lies'}"
            if task == "sine":
                target, worst, met = f"x{FACTOR}", f"x{lost:.2f}", lost <= FACTOR
            else:
                most = HONEST_POINTS if honest else POINTS
                target, worst, met = f"{most:g} points", f"{max(lost, 0.0):.1f} points", lost <= most
            found.append(Verdict(who, worst if honest else f"{worst} ({attack})", target, met))
    return found


def _repeated(outcomes: Sequence[Outcome]) -> str:
    """The share of client rounds that audits repeat where nobody lies."""
    honest = [each for each in outcomes if each.case.defence == RECOMMENDED and not each.case.liars]
    trained = sum(each.case.rounds * each.case.clients for each in honest)
    return f"{100 * sum(each.repeated for each in honest) / max(trained, 1):.0f} %"
