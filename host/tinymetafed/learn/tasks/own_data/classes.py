"""The index of every class: a whole number is its own index, names are numbered in sorted order over all files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen.spec import TaskShapes

from .file_table import UNKNOWN, Table
from .numbers import is_meant_as_number, number
from .problems import Place, Problems

MOST_UNITS = 1000  # of a last layer that is proposed
MOST_FRACTIONS = 10  # different labels with fractions that may be classes
MOST_SCATTERED = 20  # different whole numbers with others between them that may be classes


def look_like_values(labels: Collection[str]) -> bool:
    """Whether labels look like values to predict: many different numbers that are not numbered one after the other."""
    numbers = [value for value in map(number, labels) if value is not None]
    if not numbers or len(numbers) < len(labels):
        return False
    if any(not value.is_integer() for value in numbers):
        return len(labels) > MOST_FRACTIONS
    return len(labels) > MOST_SCATTERED and max(numbers) - min(numbers) >= len(set(numbers))


def count_labels(tables: Sequence[Table]) -> Counter[str]:
    """Rows of each label over all files."""
    counts: Counter[str] = Counter()
    for table in tables:
        if table.labels is not None:
            known = np.bincount(table.labels.codes[table.labels.codes != UNKNOWN], minlength=len(table.labels.names))
            counts.update({name: int(rows) for name, rows in zip(table.labels.names, known, strict=True) if rows})
    return counts


def find_classes(
    path: Path, tables: Sequence[Table], shapes: TaskShapes | None, problems: Problems, trained: Sequence[str] | None = None
) -> dict[str, int]:
    """The class index of every label.

    Args:
        path: The folder, for messages.
        tables: All files.
        shapes: Outputs and loss of the model; None for any.
        problems: Takes labels that are no classes of the model.
        trained: The classes that the model was trained with, in the order of its outputs; None to number them anew.

    Returns:
        Indices by label, also of labels that the model has no output for.
    """
    counts = count_labels(tables)
    for label in counts:
        if number(label) is None and any(map(str.isdigit, label)) and is_meant_as_number(label):
            for place in _places(tables, label):
                problems.add(place, f"label '{label}' is neither a whole number, written like 12, nor a name", "correct it")
    if trained:
        return _known_classes(tables, counts, trained, problems)
    numbers = {label: number(label) for label in counts}
    whole = {label: int(value) for label, value in numbers.items() if value is not None and value.is_integer()}
    is_whole = len(whole) == len(counts)
    index = whole if is_whole else {label: i for i, label in enumerate(sorted(counts))}
    if shapes is None or not counts:
        return index
    is_binary = shapes.loss == "binary_crossentropy"
    expected = 2 if is_binary else shapes.outputs
    model = "loss binary_crossentropy is for 2" if is_binary else f"last layer has {expected} units"
    outside = [label for label in counts if is_whole and not 0 <= whole[label] < expected]
    if outside:
        least, needed = min(whole.values()), max(whole.values()) + 1
        remedy = "number the classes from 0" if least > 0 or len(whole) <= expected else "correct the label"
        if least >= 0 and not is_binary and needed <= MOST_UNITS:
            remedy += f", or give the last layer units = {needed}"
    for label in outside:
        for place in _places(tables, label):
            problems.add(place, f"class {label}, but the model's {model}, for classes 0 to {expected - 1}", remedy)
    n = max(index.values()) + 1
    if outside or n == expected:
        return index
    shown = ", ".join(sorted(counts)[:20]) + (", …" if len(counts) > 20 else "")
    fractions = [label for label, value in numbers.items() if value is not None and label not in whole]
    if len(fractions) > expected:
        problems.add(
            Place(path),
            f"the column of labels has {len(counts):,} different values such as {fractions[0]}, which are not classes",
            'labels go in the last column, or name it: label = …; for values to predict set model.loss = "mse"',
        )
        return index
    if len(counts) == 1:
        remedy = "add rows of another class"
    elif is_binary:
        remedy = 'add rows of the other one, or take loss = "softmax_cross_entropy"'
    else:
        remedy = f"make it {n} units"
    rarest = min(counts, key=lambda label: counts[label])
    where = next(iter(_places(tables, rarest)))
    problems.add(
        Place(path),
        f"{n} class{'es' * (n > 1)} ({shown}), but the model's {model}",
        f"{remedy}, or correct the labels (the rarest, '{rarest}', is in {where})",
    )
    return index


def _known_classes(
    tables: Sequence[Table], counts: Mapping[str, int], trained: Sequence[str], problems: Problems
) -> dict[str, int]:
    """The indices that a trained model's classes have; other labels are problems."""
    index: dict[str, int] = {}
    for label in counts:
        value = number(label)
        same = [i for i, name in enumerate(trained) if name == label or (value is not None and number(name) == value)]
        if same:
            index[label] = same[0]
            continue
        index[label] = 0  # never used: the problem ends the reading
        for place in _places(tables, label):
            problems.add(place, f"class '{label}', but the model was trained with {', '.join(trained)}", "correct the label")
    return index


def _places(tables: Sequence[Table], label: str) -> list[Place]:
    """The places of the rows with a label."""
    places = []
    for table in tables:
        if table.labels is not None and label in table.labels.names:
            code = table.labels.names.index(label)
            places += [table.label_place(int(i)) for i in np.flatnonzero(table.labels.codes == code)[:1000]]
    return places
