"""Finds what is wrong with clients' samples: too few of them, classes without any, inputs that are no bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tinymetafed_codegen.spec import FolderTask

from .client_samples import longest_run
from .folder_content import ClientSamples, Reading
from .problems import Place, Problems


def check_samples(reading: Reading, spec: FolderTask, problems: Problems) -> None:
    """Finds classes without a window, clients with too few samples, equal samples, and classes that nobody trains on.

    Args:
        reading: The samples.
        spec: The experiment's [task].
        problems: Those of the files; takes those of the samples. Some checks need files without problems.
    """
    all_read = problems.count == 0
    if reading.classes is not None and spec.window is not None:
        _check_windows(reading, reading.classes, spec.window, spec, problems)
    for client in reading.clients:
        if (client.is_held_out or spec.source is None) and not any(problems.of(file) for file in client.files):
            _check_rows(client, reading.classes, spec, problems)
    inputs = [client.inputs for client in reading.clients if len(client.inputs)]
    if all_read and inputs and all(np.array_equal(each, np.broadcast_to(inputs[0][0], each.shape)) for each in inputs):
        problems.add(Place(reading.path), "all samples are equal, so they tell no classes or values apart", "record them again")
    if reading.classes is not None and spec.source is None and all_read:
        _check_trained(reading.clients, reading.classes, spec, problems)


def check_levels(client: ClientSamples, scale: np.float32, problems: Problems) -> None:
    """Finds inputs that cannot be sent as bytes.

    Args:
        client: A client's samples.
        scale: The input value of level 1.
        problems: Takes the first such input.
    """
    levels = np.rint(client.inputs / scale)
    wrong = (levels < 0) | (levels > 255) | (levels.astype(np.float32) * scale != client.inputs)
    if wrong.any():
        problems.add(
            Place(client.files[0]),
            f"task.dtype = 'uint8' is for whole numbers from 0 to 255, but an input of client '{client.name}' is "
            f"{client.inputs[wrong][0]:g}",
            'set task.dtype = "float32"',
            cause="task.dtype = 'uint8' is for whole numbers from 0 to 255",
        )


def _check_windows(reading: Reading, classes: Mapping[str, int], window: int, spec: FolderTask, problems: Problems) -> None:
    """Finds classes that no client has a window of."""
    there = {int(target) for client in reading.clients for target in np.unique(client.targets)}
    for label, index in classes.items():
        if reading.clients and index not in there:
            if spec.window_label == "majority":
                what = f"no window of {window} rows has most of its rows in class '{label}'"
                remedy = "lower task.window or task.stride"
            else:
                longest = max((longest_run(each, spec, index) for each in reading.recordings), default=0)
                what = f"no window of {window} rows fits into class '{label}': its longest run has {longest} rows"
                remedy = 'lower task.window, or set task.window_label = "majority"'
            problems.add(Place(reading.path), what, remedy)


def _check_trained(clients: Sequence[ClientSamples], classes: Mapping[str, int], spec: FolderTask, problems: Problems) -> None:
    """Finds classes of held-out clients, for test or validation, that no training client has."""
    label_of = {index: label for label, index in classes.items()}
    trained = {int(target) for client in clients if not client.is_held_out for target in np.unique(client.targets)}
    for client in clients:
        for index in sorted({int(target) for target in np.unique(client.targets)} - trained):
            problems.add(
                Place(client.files[0]),
                f"{_who(client, spec)}class '{label_of[index]}' is in held-out clients only, nobody trains on it",
                "hold out other clients in task.held_out, or leave its rows out",
                cause=f"class '{label_of[index]}' is in held-out clients only",
            )


def _who(client: ClientSamples, spec: FolderTask) -> str:
    return "" if spec.client is None else f"client '{client.name}': "


def _check_rows(client: ClientSamples, classes: Mapping[str, int] | None, spec: FolderTask, problems: Problems) -> None:
    """Finds too few samples, or too few of one class, for the sets that are drawn together."""
    keys = ["adapt"] if client.is_held_out else ["support", "query"]
    drawn = spec.adapt if client.is_held_out else spec.support + spec.query
    what = "row" if spec.window is None else "window"
    label_of = {} if classes is None else {index: label for label, index in classes.items()}
    groups: Counter[str] = Counter()
    if classes is None:
        groups[""] = len(client.targets)
    else:
        indices, first, counts = np.unique(client.targets, return_index=True, return_counts=True)
        for i in np.argsort(first):  # classes in the order of their first samples
            groups[label_of.get(int(indices[i]), "")] = int(counts[i])
    if client.is_held_out and classes is not None and len(groups) == 1:
        problems.add(
            Place(client.files[0]),
            f"{_who(client, spec)}all {what}s are of class '{next(iter(groups))}', too few classes for a meta-test",
            f"add {what}s of other classes, or hold out another {'file' if spec.client is None else 'client'}",
            cause=f"all {what}s are of one class",
        )
        return
    # At least one sample of each class is left for the test.
    needed = -(-drawn // len(groups)) + (1 if client.is_held_out else 0)
    for label, count in groups.items():
        if count < needed:
            asked = " and ".join(f"task.{key} = {getattr(spec, key)}" for key in keys)
            of_class = f" of class '{label}'" if label else ""
            why = f"{asked}{', and one to test,' if client.is_held_out else ''} need {needed}"
            problems.add(
                Place(client.files[0]),
                f"{_who(client, spec)}{count} {what}(s){of_class}, but {why}{' of each class' if label else ''}",
                f"add {what}s or lower {keys[-1]}" + (" (task.adapt, or --samples)" if client.is_held_out else ""),
                cause=f"too few {what}s for task.{keys[-1]}",
            )
            return
