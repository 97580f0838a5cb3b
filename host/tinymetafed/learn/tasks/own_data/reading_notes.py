"""Says in notes what was decided by what the user's files look like, and in warnings what may be meant otherwise."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from tinymetafed_codegen.spec import FolderTask

from .csv_file import CsvContent
from .file_table import Table
from .folder_content import ClientRecording, Reading
from .windows import median_step

FINER = 1.5  # times a recording's own rate from which a rate is worth a warning: times are never quite even


def notes_on_form(contents: Sequence[CsvContent]) -> tuple[list[str], list[str]]:
    """Notes on the forms of CSV files: delimiter, decimal mark, encoding, header.

    Args:
        contents: The files.

    Returns:
        A line for each form: the usual ones, then the others.
    """
    by_form: dict[tuple[bool, str], list[CsvContent]] = defaultdict(list)
    for content in contents:
        said = [*content.form.unusual]
        if content.units:
            said.append("a row of units left out")
        if content.repeated_headers:
            said.append("repeated headers left out")
        is_usual = not said
        if is_usual:
            said = [content.form.encoding_title, "columns separated by commas"]
        said.append("the first row has names" if content.header else "no names in the first row")
        by_form[is_usual, ", ".join(said)].append(content)
    usual, others = (
        [f"{_files(group)}: {said}" for (is_usual, said), group in by_form.items() if is_usual == wanted]
        for wanted in (True, False)
    )
    return usual, others


def notes_on_missing(tables: Sequence[Table]) -> list[str]:
    """Notes on rows that were left out and values that were interpolated, in all ``tables`` together."""
    left_out = [table.left_out for table in tables if table.left_out]
    missing = [count for table in tables if (count := int(np.isnan(table.values).sum()))]
    return [
        f"{sum(counts):,} {what}, of {len(counts)} file{'s' * (len(counts) > 1)}"
        for counts, what in ((left_out, "rows with missing values left out"), (missing, "missing values interpolated"))
        if counts
    ]


def warnings_on_spelling(what: str, names: Iterable[str]) -> list[str]:
    """A warning for each group of names that differ only in case, in blanks or in how a letter is encoded.

    Args:
        what: What is named: "class" or "client".
        names: All names.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        f"{' and '.join(map(repr, group))} differ only in case, blanks or encoding, and are {len(group)} "
        f"{what}{'es' if what.endswith('s') else 's'}; write them alike if they are one"
        for group in alike.values()
        if len(group) > 1
    ]


def warnings_on_rate(recordings: Sequence[ClientRecording], spec: FolderTask) -> list[str]:
    """A warning if ``task.rate`` asks for more rows than recordings have; none without ``task.rate``."""
    if spec.rate is None or spec.window is None:
        return []
    coarse = [
        (1 / step, each.table.file.name)
        for each in recordings
        if each.recording.time is not None and (step := median_step(each.recording.time)) and spec.rate * step > FINER
    ]
    if not coarse:
        return []
    slowest, file = min(coarse)
    more = len({name for _, name in coarse}) - 1
    others = f", and {more} more file{'s' * (more > 1)} too few," if more else ""
    return [
        f"task.rate = {spec.rate:g}, but {file} has about {slowest:.3g} rows per second{others} so that up to "
        f"{1 - slowest / spec.rate:.0%} of the rows are interpolated and tell nothing new; "
        f"set task.rate = {slowest:.3g} or lower"
    ]


def _files(group: Sequence[CsvContent]) -> str:
    first = group[0].table.file.name
    more = len(group) - 1
    return f"{first} and {more} more file{'s' * (more > 1)}" if more else first


def notes_on_windows(reading: Reading, spec: FolderTask) -> list[str]:
    """A note on the windows that were cut; none without ``task.window``."""
    if spec.window is None or not reading.clients:
        return []
    stride = spec.stride or spec.window
    total = sum(len(client.inputs) for client in reading.clients)
    said = f"{total:,} windows of {spec.window} rows, one every {stride}"
    if reading.classes is not None:
        pure = "each within rows of one label"
        said += f", {pure if spec.window_label == 'pure' else 'each with the label of most of its rows'}"
    if spec.rate is not None:
        said += f", resampled to {spec.rate:g} Hz"
    if stride < spec.window:
        said += (
            f"; windows side by side share {spec.window - stride} rows, so that samples to adapt and to test with do too: "
            f"stride = {spec.window} keeps them apart"
        )
    return [said]
