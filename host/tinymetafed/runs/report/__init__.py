"""HTML reports of runs: a page of one run, or a page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jinja2

from tinymetafed_codegen import rendering
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.files import write_if_changed

from ..run_data import RunData, StoreError
from ..store import read_run
from . import comparison_page, run_page
from .comparison_page import ComparisonPage
from .run_page import RunPage

_TEMPLATES = Path(__file__).parent / "templates"


class ReportError(Error):
    """Runs that cannot be compared; the text names them."""


def write(run: RunData, output: Path | None = None) -> Path:
    """Writes a run's page.

    Args:
        run: The run.
        output: The file; None for report.html in the run folder.

    Returns:
        Path of the page.

    Raises:
        StoreError: This version cannot read the run's experiment.
    """
    path = run.path / "report.html" if output is None else output
    with run.consistent():
        text = _render("run.html.j2", run_page.page(run))
    write_if_changed(path, text)
    return path


def compare(run_dirs: Sequence[Path], output: Path) -> list[str]:
    """Writes a page that compares several finished runs of one task.

    Args:
        run_dirs: The run folders.
        output: The file.

    Returns:
        A line of text for each run that was left out because it has not finished or cannot be read.

    Raises:
        ReportError: Fewer than two runs can be compared, a run is given twice, or tasks or metrics differ.
    """
    if len({path.resolve() for path in run_dirs}) < len(run_dirs):
        raise ReportError("a run is given twice; name each run once")
    whole: list[RunData] = []
    left_out: list[str] = []
    for path in run_dirs:
        try:
            data = read_run(path)
        except StoreError as error:
            left_out.append(str(error))
            continue
        if data.result is None:
            planned = data.experiment().run.rounds
            left_out.append(f"{path}: not finished, {data.trained:,} of {planned:,} rounds so far")
        else:
            whole.append(data)
    if len(whole) < 2:
        raise ReportError("; ".join([f"{len(whole)} of {len(run_dirs)} runs can be compared, two are needed", *left_out]))
    kinds: dict[tuple[str, str], RunData] = {}
    for data in whole:
        kinds.setdefault(comparison_page.kind(data), data)
    if len(kinds) > 1:
        named = "; ".join(f"{data.path}: {task}, {metric}" for (task, metric), data in kinds.items())
        raise ReportError(f"runs of different tasks or metrics cannot be compared: {named}; make a page of each kind")
    write_if_changed(output, _render("comparison.html.j2", comparison_page.page(whole, left_out)))
    return left_out


def _render(template: str, page: RunPage | ComparisonPage) -> str:
    return environment().get_template(template).render(vars(page))


@cache
def environment(*more: Path) -> jinja2.Environment:
    """The templates of the pages, and those in further folders."""
    return rendering.environment([*more, _TEMPLATES], html=True)
