"""The table of a sweep that leaves clients out: one row per client, which no run of the row trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from tinymetafed_codegen.libraries.markdown_text import markdown_text, table_row

from ...federation.meta_test import mean
from ...learn.metric import Metric
from ...runs.run_data import RunData
from . import comparison
from .spread import Spread, score
from .table import Row


class LeftOutJson(TypedDict):
    """One client's scores as JSON."""

    variant: str
    client: str
    before: float | None
    after: float | None
    gain: float | None
    after_by_seed: dict[str, float | None]


@dataclass(frozen=True)
class LeftOut:
    """The scores of a client in the runs that did not train on it: means over seeds, and the score after each seed's run."""

    variant: str
    client: str
    metric: Metric
    before: float | None
    by_seed: Mapping[int, float | None]

    @property
    def after(self) -> float | None:
        """The mean score after adaptation; None if a run has none."""
        return mean(list(self.by_seed.values())) if self.by_seed else None

    @property
    def gain(self) -> float | None:
        """How far adaptation raises the score; None if a run has none."""
        after = self.after
        return None if after is None or self.before is None else after - self.before

    def as_json(self) -> LeftOutJson:
        """JSON values."""
        by_seed = {str(seed): score for seed, score in self.by_seed.items()}
        return {
            "variant": self.variant,
            "client": self.client,
            "before": self.before,
            "after": self.after,
            "gain": self.gain,
            "after_by_seed": by_seed,
        }


def left_out(rows: Sequence[Row]) -> tuple[LeftOut, ...]:
    """The scores of every client that was left out, by variant; clients whose runs have not finished are missing.

    Args:
        rows: The rows of a sweep that leaves clients out.
    """
    return tuple(each for row in rows for each in _of_row(row))


def _of_row(row: Row) -> Iterator[LeftOut]:
    """The clients of one group. Tasks take turns over them; where a task draws clients, the group has one score."""
    if not (names := row.cell.left_out):
        return
    by_client = {run.evaluations[-1].n_clients == len(names) for run in row.runs.values()}
    if by_client != {True}:
        names = (", ".join(names),)
    scores = {seed: _by_turn(run, len(names)) for seed, run in row.runs.items()}
    for i, name in enumerate(names if scores else ()):
        before = mean([each[i][0] for each in scores.values()])
        yield LeftOut(row.cell.variant, name, row.metric, before, {seed: each[i][1] for seed, each in scores.items()})


def _by_turn(run: RunData, count: int) -> list[tuple[float | None, float | None]]:
    """Mean scores before and after adaptation of each of ``count`` clients."""
    tasks = run.evaluations[-1].per_task
    turns = [tasks[i::count] for i in range(count)]
    return [(mean([before for before, _ in turn]), mean([after for _, after in turn])) for turn in turns]


# As text

_SUMMARY = ("mean", "95 % CI over clients", "clients")


def headings(clients: Sequence[LeftOut]) -> list[str]:
    """The column of clients, and three columns for each variant."""
    return ["left out", *(f"{name}, {text}" for name in _variants(clients) for text in ("before", "after", "gain"))]


def cells(clients: Sequence[LeftOut]) -> list[list[str]]:
    """A row of texts for each client, below ``headings``; then the mean, its 95 % interval and the number of clients."""
    found = {(each.client, each.variant): each for each in clients}
    lines = []
    for client in dict.fromkeys(each.client for each in clients):
        line = [client]
        for variant in _variants(clients):
            one = found.get((client, variant))
            line += ["–"] * 3 if one is None else [score(each, one.metric) for each in (one.before, one.after, one.gain)]
        lines.append(line)
    lines += [[text] for text in _SUMMARY]
    for variant in _variants(clients):
        own = [each for each in clients if each.variant == variant]
        for values in ([each.before for each in own], [each.after for each in own], [each.gain for each in own]):
            known = Spread.of([value for value in values if value is not None])
            interval = "–" if known.ci95 is None else f"± {score(known.ci95, own[0].metric)}"
            for line, text in zip(lines[-3:], (score(known.mean, own[0].metric), interval, str(len(own))), strict=True):
                line.append(text)
    return lines


def comparisons(clients: Sequence[LeftOut], baseline: str | None) -> list[str]:
    """Lines on each variant compared with the baseline, client by client, below a heading; none without a baseline.

    Args:
        clients: Clients that were left out.
        baseline: The variant that the others are compared with; None for no comparison.
    """
    scores = {
        variant: {each.client: each.after for each in clients if each.variant == variant and each.after is not None}
        for variant in _variants(clients)
    }
    if baseline not in scores:
        return []
    metric = clients[0].metric
    return comparison.lines(comparison.compare(scores, baseline, metric, "client"), metric, "client")


def markdown(clients: Sequence[LeftOut], baseline: str | None = None) -> str:
    """The table as Markdown, followed by a sentence that explains it, and by comparisons with the baseline."""
    heads = headings(clients)
    lines = [table_row(heads), "|---|" + "---:|" * (len(heads) - 1), *(table_row(line) for line in cells(clients))]
    lines += ["", f"{markdown_text(legend(clients))}."]
    if compared := comparisons(clients, baseline):
        lines += ["", markdown_text(compared[0]), "", *(f"- {markdown_text(line)}" for line in compared[1:])]
    return "\n".join(lines) + "\n"


def legend(clients: Sequence[LeftOut]) -> str:
    """A sentence that explains the figures."""
    what = {Metric.ACCURACY: "Accuracy in percent", Metric.MSE: "Mean squared error"}[clients[0].metric]
    return f"{what} of each client in runs that did not train on it; gain: by adapting; intervals are Student's t over clients"


def csv_text(clients: Sequence[LeftOut]) -> str:
    """The table as CSV: a line per variant, client and seed, numbers unrounded."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["variant", "client", "seed", "metric", "before, mean over seeds", "after"])
    for each in clients:
        for seed, after in each.by_seed.items():
            writer.writerow([each.variant, each.client, seed, each.metric, each.before, after])
    return file.getvalue()


def _variants(clients: Sequence[LeftOut]) -> list[str]:
    return list(dict.fromkeys(each.variant for each in clients))
