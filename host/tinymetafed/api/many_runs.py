"""Many runs at once: sweeps over options and seeds into one table, and the papers' tables measured again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.files import write_if_changed

from ..experiments import paper as paper_document
from ..experiments import sweep as sweeps
from ..experiments.sweep import Row, table
from .progress import ProgressOption, watching


@dataclass(frozen=True)
class SweepTable:
    """A sweep's results, a row for each choice of options; ``folder`` has its runs, and the table as Markdown and CSV."""

    name: str
    folder: Path
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """Every row as texts: name, seeds, before, after, SD, interval, each seed, bytes down, up, of samples, cost."""
        return [table.cells(row) for row in self.rows]

    def legend(self) -> str:
        """What the figures are."""
        return table.legend(self.rows)

    def notes(self) -> list[str]:
        """What has to be said of single rows, such as runs that diverged."""
        return table.notes(self.rows)

    def markdown(self) -> str:
        """The table as Markdown."""
        return table.markdown(self.rows)


def sweep(
    file: str | Path,
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> SweepTable:
    """Simulates an experiment over options and seeds on all cores; interrupted, the same call goes on.

    Args:
        file: A sweep file, for instance examples/sweeps/sine.toml.
        out: Folder of its runs and tables; None for runs/sweep-NAME.
        jobs: Runs at a time; None for one per core.
        data: Where the task's data are, where not in the usual place.
        progress: As in ``simulate``.

    Returns:
        The table, which is also written to table.md and table.csv in the folder, after an interruption too.

    Raises:
        SweepError: The sweep file is wrong. SweepFailed: its folder is another sweep's, or a run failed.
    """
    path = Path(file)
    planned = sweeps.load(path)
    folder = Path("runs") / f"sweep-{path.stem}" if out is None else Path(out)
    diverged: dict[Path, str] = {}
    try:
        with watching(progress) as observer:
            diverged = sweeps.execute(planned, folder, _jobs(jobs), _path(data), observer)
    finally:
        if sweeps.is_sweep(folder):
            found = sweep_table(planned, folder, diverged)
    return found


def sweep_table(planned: sweeps.Sweep, folder: Path, diverged: dict[Path, str]) -> SweepTable:
    """The table of what is finished in a sweep's folder, written there as Markdown and CSV."""
    rows: Sequence[Row] = sweeps.rows(planned, folder, diverged)
    found = SweepTable(planned.path.stem, folder, tuple(rows))
    write_if_changed(folder / "table.csv", table.csv_text(rows))
    write_if_changed(folder / "table.md", f"# {found.name}\n\n{found.markdown()}")
    return found


def paper(
    out: str | Path = "docs",
    *,
    runs: str | Path = "runs/paper",
    quick: bool = False,
    jobs: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> Path:
    """Measures the papers' tables again and writes them with plots, ours beside theirs.

    Args:
        out: Folder for paper.md and its plots.
        runs: Folder of the runs; what is finished there is not run again.
        quick: One seed and a tenth of the rounds, which the document says.
        jobs: Runs at a time; None for one per core.
        data: Where the data sets are, where not in the usual place.
        progress: As in ``simulate``.

    Returns:
        The document's path.

    Raises:
        Error: As ``sweep``; BenchError where an emulator is missing.
    """
    with watching(progress) as observer:
        return paper_document.write(Path(out), Path(runs), _jobs(jobs), _path(data), quick, observer)


def _jobs(asked: int | None) -> int:
    return asked or os.cpu_count() or 1


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
