"""Many runs: sweeps over options and seeds with one table, and a reproduction of the papers' tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.libraries.markdown_text import markdown_text

from ..experiments import paper as paper_document
from ..experiments import sweep as sweeps
from ..experiments.sweep import Curve, LeftOut, Row, curve_table, left_out_table, table
from .api_defaults import jobs_of
from .loaded_experiment import data_path
from .progress import ProgressOption, watching


@dataclass(frozen=True)
class SweepTable:
    """A sweep's results, one row per combination of options; ``folder`` has the runs, table.md, table.csv and curve.csv.

    ``left_out``: name and reason of each combination that has too few clients for its rounds. ``clients``: where the sweep
    leaves clients out in turn, the scores of each; the folder then has clients.csv, too. ``baseline``: what others are
    compared with. ``curves``: the scores of each row, or variant, by number of samples.
    """

    name: str
    folder: Path
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    clients: tuple[LeftOut, ...] = ()
    baseline: str | None = None
    curves: tuple[Curve, ...] = ()

    def client_headings(self) -> list[str]:
        """The headings of ``client_cells``."""
        return left_out_table.headings(self.clients)

    def client_cells(self) -> list[list[str]]:
        """A row per client that was left out, then mean, 95 % interval and number of clients; three columns per variant."""
        return left_out_table.cells(self.clients)

    def client_legend(self) -> str:
        """A sentence that explains the figures of clients."""
        return left_out_table.legend(self.clients)

    def cells(self) -> list[list[str]]:
        """The rows as text: name, seeds, before, after, SD, confidence interval, each seed, bytes down, up, samples, cost."""
        return [table.cells(row) for row in self.rows]

    def legend(self) -> str:
        """A sentence that explains the figures."""
        return table.legend(self.rows)

    def comparisons(self) -> list[str]:
        """Lines on each row, or each variant client by client, against the baseline, below a heading; none without one."""
        return left_out_table.comparisons(self.clients, self.baseline) if self.clients else table.comparisons(self.rows)

    def notes(self) -> list[str]:
        """Notes on single rows, for instance on runs that diverged, and on what was left out."""
        return table.notes(self.rows, self.left_out)

    def markdown(self) -> str:
        """The table as Markdown, then scores by number of samples; where clients were left out, the table of clients first."""
        clients = f"{left_out_table.markdown(self.clients, self.baseline)}\n" if self.clients else ""
        curves = f"\n{curve_table.markdown(self.curves)}" if self.curves else ""
        return clients + table.markdown(self.rows, self.left_out) + curves


def sweep(
    file: str | Path,
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    data: str | Path | None = None,
    leave_out: int | None = None,
    progress: ProgressOption = True,
) -> SweepTable:
    """Simulates an experiment over options and seeds on all cores; after an interruption the same call continues.

    Args:
        file: A sweep file, for instance examples/sweeps/sine.toml.
        out: Folder for runs and tables; None for runs/sweep-NAME.
        jobs: Runs at a time; None for one per core.
        data: Folder of the task's data; None for the usual place.
        leave_out: Clients that a run holds out, so that each client is unseen in one run of every seed and variant: 1 for
            leave-one-out. None for the file's ``leave_out``.
        progress: As in ``simulate``.

    Returns:
        The table, which is also written to table.md, table.csv and curve.csv in the folder, even after an interruption. With
        ``group = "validation"`` in the file, its scores are those of validation clients; with ``baseline``, rows have
        comparisons.

    Raises:
        UsageError: ``data`` is given and the task reads none.
        DataError: The data of a sweep that leaves clients out cannot be read.
        SweepError: The sweep file is invalid. SweepFailed: the folder belongs to another sweep, or a run failed.
    """
    path, at_once = Path(file), jobs_of(jobs)
    planned = sweeps.load(path, _path(data), leave_out)
    reading = [cell.experiment.task for cell in planned.cells if cell.experiment.task.reads_data]
    own = data_path((reading or [planned.cells[0].experiment.task])[0], data)
    folder = Path("runs") / f"sweep-{path.stem}" if out is None else Path(out)
    failed: dict[Path, str] = {}
    try:
        with watching(progress) as observer:
            failed = sweeps.execute(planned, folder, at_once, own, observer)
    finally:
        if sweeps.is_sweep(folder):
            found = sweep_table(planned, folder, failed)
    return found


def sweep_table(planned: sweeps.Sweep, folder: Path, failed: dict[Path, str]) -> SweepTable:
    """The table of the finished runs in a sweep's folder; also writes it there as table.md and table.csv."""
    rows: Sequence[Row] = sweeps.rows(planned, folder, failed)
    clients = sweeps.left_out(rows)
    curves = curve_table.curves(rows)
    found = SweepTable(planned.path.stem, folder, tuple(rows), planned.left_out, clients, planned.baseline, curves)
    if clients:
        write_if_changed(folder / "clients.csv", left_out_table.csv_text(clients))
    if curves:
        write_if_changed(folder / "curve.csv", curve_table.csv_text(curves))
    write_if_changed(folder / "table.csv", table.csv_text(rows))
    write_if_changed(folder / "table.md", f"# {markdown_text(found.name)}\n\n{found.markdown()}")
    return found


def paper(
    out: str | Path = "docs",
    *,
    runs: str | Path = "runs/paper",
    quick: bool = False,
    part: str | None = None,
    jobs: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> Path:
    """Reproduces the papers' tables and writes a document with published and measured figures and plots.

    Args:
        out: Folder for paper.md and its plots.
        runs: Folder of the runs; finished runs are not repeated.
        quick: Use one seed and a tenth of the rounds; the document says so.
        part: Write only this part of the document again: "rates", "moving", "size" or "shots"; None for all of it.
        jobs: Runs at a time; None for one per core.
        data: Folder of the data sets; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        The document's path.

    Raises:
        UsageError: There is no such part, or no document to write it into, or a part is asked for a quick document.
        Error: As ``sweep``.
    """
    if part is not None and part not in list(paper_document.Part):
        raise UsageError(f"--part {part}: expected one of {', '.join(paper_document.Part)}")
    if part is not None and quick:
        raise UsageError("a document of full runs cannot contain a part of a quick run; leave out either the part or quick")
    chosen = None if part is None else paper_document.Part(part)
    at_once = jobs_of(jobs)
    with watching(progress) as observer:
        return paper_document.write(Path(out), Path(runs), at_once, _path(data), quick, observer, chosen)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
