"""What commands print about a run: its result, the scores of adapted clients, and scores by class."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from .output import results

FEWEST_FOR_INTERVAL = 3  # independent units: an interval of two is wider than any use
MANY_CLASSES = 12  # of more the confusion matrix is too wide for a terminal; the report and --json have it


def score_text(value: float | None) -> str:
    """A score as the terminal shows it; None for weights that have diverged."""
    return "diverged" if value is None else f"{value:.3f}"


def show_result(run: tmf.Run, as_json: bool) -> None:
    """Prints the result of a finished run, and writes its report."""
    result, page = run.result, run.report()
    assert result is not None  # the run has finished
    if as_json:
        print(json.dumps({**result.as_json(), "run": str(run.path), "report": str(page)}, allow_nan=False))
        return
    test = result.meta_test
    rounds = max(result.rounds, 1)
    dense = result.bytes_up_dense / rounds
    table = Table(show_header=False, box=None, padding=(0, 2))
    unit = test.metric.caption
    clients = f"{test.n_clients:,} unseen client{'' if test.n_clients == 1 else 's'}"
    splits = "" if test.n_tasks == test.n_clients else f"{test.n_tasks} splits of "
    n = test.n_clients if test.n_independent is None else test.n_independent
    independent = f"{n:,} {test.unit}{'' if n == 1 else 's'}"
    of_units = "" if n == test.n_clients else f" of {independent}"
    group = ", for validation" if test.group == "validation" else ""
    table.add_row(f"meta-test {unit}, {splits}{clients}{of_units}{group}", f"{score_text(test.before)} before adaptation")
    interval = "" if test.after_ci95 is None else f" ± {test.after_ci95:.3f}"
    if n < FEWEST_FOR_INTERVAL:
        interval = f" ({independent}, too few for an interval)"
    table.add_row("", Text.assemble((score_text(test.after), "bold"), f"{interval} after"))
    table.add_row(
        "bytes per round on the wire",
        f"{result.bytes_down / rounds:,.0f} down, {result.bytes_up / rounds:,.0f} up",
    )
    if result.bytes_down_full is not None:
        share = result.bytes_down / max(result.bytes_down_full, 1)
        full = result.bytes_down_full / rounds
        table.add_row("with all weights in each round", f"{full:,.0f} down, of which differences took {share:.0%}")
    table.add_row("dense float32, values only", f"{dense:,.0f} down, {dense:,.0f} up")
    if result.bytes_samples:
        table.add_row("samples streamed per round", f"{result.bytes_samples / rounds:,.0f} bytes")
    if result.instructions_per_step is not None:
        counts = ", ".join(f"{result.instructions_per_step[v]:,} {v}" for v in ("local", "global", "full"))
        table.add_row("instructions per training step", counts)
    if result.redone or result.skipped:
        table.add_row("contributions", f"{result.redone:,} redone after a first attempt was lost, {result.skipped:,} skipped")
    if result.closed_early:
        late = ", ".join(f"{board.device} {board.rounds:,} times" for board in result.late_boards or ())
        table.add_row("rounds that ended early", f"{result.closed_early:,}{late and f'; late: {late}'}")
    if result.privacy is not None:
        table.add_row("privacy", result.privacy.text)
    table.add_row("time", f"{result.seconds:.1f} s for {result.rounds} rounds and the meta-test")
    best = "" if result.kept_round is None else f", the best of those compared, after {result.kept_round:,} rounds"
    mean = "" if result.averaged is None else f", mean of {result.averaged:,} rounds"
    table.add_row("weights", f"sha256 {result.weights_sha256[:16]}…{best}{mean}")
    console = results()
    console.print(table)
    _show_classes(console, test.classes)
    console.print(f"  report  {page}", soft_wrap=True)
    if _is_worse(test):
        console.print(
            Text.assemble(
                ("  Adaptation made the score worse: there are too few rounds for this schedule.", "yellow"),
                " Increase run.rounds or, for a short run, strategy.alpha_max.",
            ),
            highlight=False,
            soft_wrap=True,
        )


def show_adaptation(adapted: tmf.Adaptation, whose: str, as_json: bool) -> None:
    """Prints the score of each client, their means and the results by class."""
    if as_json:
        print(json.dumps(asdict(adapted)))
        return
    how = f"each adapted with {adapted.samples} samples" if adapted.samples else "adapted already"
    table = Table(title=f"{whose}, {how}")
    for heading in ("client", "task", f"{adapted.metric} before", "after"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for each in adapted.clients:
        known = " (trained on)" if each.trained_on else ""
        table.add_row(str(each.client), each.task + known, score_text(each.before), score_text(each.after))
    table.add_section()
    table.add_row("mean", "", score_text(adapted.before), score_text(adapted.after))
    console = results()
    console.print(table)
    _show_classes(console, adapted.classes)
    for note in adapted.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _show_classes(console: Console, classes: tmf.ClassScores | None) -> None:
    """Prints precision and recall by class, and the confusion matrix of a few classes."""
    if classes is None:
        return
    few = len(classes.names) <= MANY_CLASSES
    table = Table(title="Test samples by class after adaptation", title_justify="left")
    table.add_column("true class")
    for name in ("precision", "recall"):
        table.add_column(name, justify="right")
    for name in classes.names if few else ():
        table.add_column(f"as {name}", justify="right")
    for name, counts, precision, recall in zip(
        classes.names, classes.confusion, classes.precision, classes.recall, strict=True
    ):
        shares = ["–" if share is None else f"{100 * share:.1f} %" for share in (precision, recall)]
        table.add_row(name, *shares, *(f"{number:,}" for number in (counts[:-1] if few else ())))
    console.print(table)


def _is_worse(test: tmf.FinalScores) -> bool:
    """Whether unseen clients had a better score before adaptation."""
    if test.before is None or test.after is None:
        return False
    return test.metric.is_better(test.before, test.after)
