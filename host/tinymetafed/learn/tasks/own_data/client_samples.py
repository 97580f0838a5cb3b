"""Makes a client's samples of its recordings: rows as they are, or the windows cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tinymetafed_codegen.spec import FolderTask, TaskShapes

from .. import Floats
from .file_table import Table
from .folder_content import ClientRecording, ClientSamples
from .problems import Place, Problems
from .windows import Recording, WindowLabel, cut, filled, resampled, runs, segments, too_many_rows


def samples_of(
    name: str,
    own: Sequence[ClientRecording],
    spec: FolderTask,
    shapes: TaskShapes | None,
    is_held_out: bool,
    problems: Problems,
) -> ClientSamples | None:
    """A client's rows, or the windows cut from them.

    Args:
        name: The client.
        own: Its recordings.
        spec: The experiment's [task].
        shapes: Shapes of the model; None where there is no model, then the inputs are rows or windows as they are.
        is_held_out: Whether the client serves the test or validation.
        problems: Takes what is wrong with the recordings.

    Returns:
        The samples; None where there are none, which is a problem of windows.
    """
    values, targets = list[Floats](), list[Floats]()
    origin = list[tuple[Path, int]]()
    for each in own:
        before = sum(map(len, values))
        for segment in prepared(each, spec, problems):
            if spec.window is None:
                values.append(segment.values)
                targets.append(segment.targets)
            else:
                x, y = cut(segment, spec.window, spec.stride or spec.window, _window_label(each.table, spec))
                values.append(x)
                targets.append(y)
        origin.append((each.table.file, sum(map(len, values)) - before))
    rows = sum(len(each.recording) for each in own)
    if not sum(map(len, values)):
        if spec.window is not None and not any(problems.of(each.table.file) for each in own):
            _add_no_window(own, rows, spec, problems)
        return None
    one = len(values) == 1
    inputs = values[0] if one else np.concatenate(values)
    if shapes is not None:
        inputs = inputs.reshape(-1, *shapes.input)
    return ClientSamples(name, tuple(origin), rows, inputs, targets[0] if one else np.concatenate(targets), is_held_out)


def _add_no_window(own: Sequence[ClientRecording], rows: int, spec: FolderTask, problems: Problems) -> None:
    """Adds the problem of a client without windows, with its likely cause."""
    longest = max(longest_run(each, spec) for each in own)
    of_one = "of one label " if _window_label(own[0].table, spec) == "pure" else ""
    what = f"no window of {spec.window} rows fits: the longest run {of_one}without a gap has {longest} rows"
    remedy = "lower task.window" + (', or set task.window_label = "majority"' if of_one else "")
    steps = np.concatenate([np.empty(0), *(np.diff(each.recording.time) for each in own if each.recording.time is not None)])
    if len(steps) and (steps < 0).mean() > 0.5:
        what, remedy = "time runs backwards from row to row", "sort the rows by time"
    elif len(steps) and spec.rate is not None and not steps.any():
        what, remedy = f"all {rows:,} rows have the same time", "correct the times, or leave task.rate out"
    problems.add(Place(own[0].table.file), what, remedy, cause=f"no window: {remedy}")


def _window_label(table: Table, spec: FolderTask) -> WindowLabel | None:
    return None if table.labels is None else spec.window_label


def prepared(each: ClientRecording, spec: FolderTask, problems: Problems) -> list[Recording]:
    """The parts of a recording that windows are cut from.

    Args:
        each: The recording.
        spec: The experiment's [task].
        problems: Takes what is wrong with it.

    Returns:
        The parts between gaps, with missing values filled, at ``task.rate``; without windows the whole recording.
    """
    parts = [each.recording] if spec.window is None else segments(each.recording, spec.largest_gap)
    found = []
    for part in parts:
        whole = filled(part) if part.values.ndim == 2 else part
        if np.isnan(whole.values).any():
            empty = int(np.argmax(np.isnan(whole.values).all(axis=0))) if whole.values.ndim == 2 else 0
            of = f"'{each.table.names[empty]}'" if each.table.names else f"{empty + 1}"
            what = f"feature {of} has no value in {len(whole)} row(s) that belong together, so that none can be interpolated"
            remedy = 'leave the column out with task.ignore, or set task.missing = "drop"'
            problems.add(Place(each.table.file), what, remedy, cause=f"feature {of} has no value")
            continue
        if spec.rate is None or spec.window is None:
            found.append(whole)
        elif rows := too_many_rows(whole, spec.rate):
            what = f"{len(whole):,} rows without a gap become {rows:,} at task.rate = {spec.rate:g}"
            remedy = "lower task.rate, correct the times or their unit, or set task.largest_gap"
            problems.add(Place(each.table.file), what, remedy, cause="too many rows at task.rate")
        else:
            found.append(resampled(whole, spec.rate))
    return found


def longest_run(each: ClientRecording, spec: FolderTask, target: float | None = None) -> int:
    """Counts the rows of the longest run that a window may be cut from.

    Args:
        each: A recording.
        spec: The experiment's [task].
        target: The index of a class, to consider only runs that have it; None for all runs.

    Returns:
        Its rows, at ``task.rate``.
    """
    longest = 0
    for segment in segments(each.recording, spec.largest_gap):
        part = segment if spec.rate is None or too_many_rows(segment, spec.rate) else resampled(segment, spec.rate)
        ends = runs(part) if _window_label(each.table, spec) == "pure" else np.array([0, len(part)])
        for start, end in pairwise(ends.tolist()):
            if target is None or (part.targets[start:end, 0] == target).any():
                longest = max(longest, int(end - start))
    return longest
