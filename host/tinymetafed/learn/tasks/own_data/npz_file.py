"""Reads an NPZ file into a table: arrays x and y, and those that ``task.client`` and ``task.time`` name."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.packed import DAMAGED, PackedError, require_modest_npz

from .. import Floats
from .columns import Wanted
from .file_table import UNKNOWN, Bools, Table, Texts
from .problems import Place, Problems

_WRITE = "write it with numpy.savez(file, x=x, y=y)"
_CORRECT = "correct it or leave its row out"


def read_npz(file: Path, wanted: Wanted, problems: Problems, notes: list[str]) -> Table | None:
    """Reads an NPZ file.

    Args:
        file: The file.
        wanted: What the experiment reads from each row.
        problems: Takes everything that is wrong.
        notes: Takes what was decided, such as a reshape.

    Returns:
        The rows that can be used; None if there are none.
    """
    here, spec = Place(file), wanted.spec
    names = {"x": "x", "y": "y"} | {
        key: str(name) for key, name in (("client", spec.client), ("time", spec.time)) if name is not None
    }
    if not zipfile.is_zipfile(file):
        problems.add(here, "damaged, or not an NPZ file", _WRITE)
        return None
    try:
        require_modest_npz(file)
        with np.load(file, allow_pickle=False) as arrays:
            if missing := set(names.values()) - set(arrays.files):
                there = ", ".join(arrays.files) or "nothing"
                problems.add(here, f"no array {' and '.join(sorted(missing))}, only {there}", _WRITE)
                return None
            read = {key: np.asarray(arrays[name]) for key, name in names.items()}
    except PackedError as error:
        problems.add(here, str(error), _WRITE)
        return None
    except DAMAGED as error:
        problems.add(here, f"damaged, or arrays of objects ({error})", _WRITE)
        return None
    x = _shaped(file, read["x"], wanted, problems, notes)
    if x is None:
        return None
    n, outputs, y = len(x), wanted.outputs, read["y"]
    shapes = [(n,), (n, 1)] if outputs <= 1 else [(n, outputs)]
    if y.shape not in shapes:
        problems.add(here, f"y has shape {list(y.shape)}, expected {' or '.join(str(list(shape)) for shape in shapes)}")
        return None
    left_out = np.zeros(n, bool)
    values = _numbers(file, "x", x, wanted, problems, left_out)
    targets = _numbers(file, "y", y, wanted, problems, left_out) if outputs else np.empty((n, 0), np.float32)
    labels = (
        None
        if outputs
        else _texts(
            file,
            "y",
            y.reshape(n),
            problems,
            left_out if wanted.labelled else None,
            spec.missing == "drop" or not wanted.labelled,
        )
    )
    clients = time = None
    for key in ("client", "time"):
        if key in read and read[key].shape != (n,):
            problems.add(here, f"{names[key]} has shape {list(read[key].shape)}, expected [{n}]")
            return None
    if "client" in read:
        clients = _texts(file, names["client"], read["client"], problems, left_out, spec.missing == "drop")
    if "time" in read:
        moments = read["time"]
        is_date = moments.dtype.kind == "M"
        time = moments.astype("datetime64[us]").astype(np.float64) if is_date else moments.astype(np.float64)
        if not np.isfinite(time).all():
            problems.add(here, f"{names['time']}[{int(np.argmin(np.isfinite(time)))}] is not a finite number", _CORRECT)
            return None
    if values is None or targets is None:
        return None
    table = Table(
        file=file,
        names=(),
        values=values,
        targets=targets.reshape(n, -1),
        labels=labels,
        clients=clients,
        time=time,
        time_name=names.get("time", ""),
        is_clock="time" in read and read["time"].dtype.kind == "M",
        breaks=np.zeros(n, bool),
        label_place=lambda i: Place(file, name=f"y[{i}]"),
    )
    if not left_out.any():
        return table
    return replace(table.without(left_out), left_out=0 if problems.of(file) else int(left_out.sum()))


def _shaped(
    file: Path, x: NDArray[np.generic], wanted: Wanted, problems: Problems, notes: list[str]
) -> NDArray[np.generic] | None:
    """``x`` in the shape of the model's samples, or of rows over time; None and a problem if it is in none."""
    window, shape = wanted.spec.window, wanted.shape
    expected = f"[rows, {wanted.features}], rows over time as task.window = {window} asks" if window is not None else ""
    if window is not None:
        shape = () if wanted.features is None else (wanted.features,)
    n, own = (len(x), x.shape[1:]) if x.ndim else (0, ())
    if n and (own == shape or (not shape and own and wanted.features in (None, math.prod(own)))):
        return x
    if n and shape and own and math.prod(own) == math.prod(shape) and is_reshape(own, shape):
        notes.append(f"{file.name}: x of shape {list(x.shape)} is read as {[n, *shape]}")
        return x.reshape(n, *shape)
    remedy = ""
    if n and shape and math.prod(own) == math.prod(shape):
        remedy = "its numbers may be in another order; write x.transpose(...) or x.reshape(...) in the order of model.input"
    of = expected or f"[rows, {str(list(shape))[1:]} as in model.input"
    problems.add(Place(file), f"x has shape {list(x.shape)}, expected {of}", remedy, f"x of shape {own}, expected {of}")
    return None


def is_reshape(own: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether the order of the numbers of a sample is clear: one of the shapes is flat, or they differ in axes of 1 only."""
    kept, other = (tuple(size for size in shape if size != 1) for shape in (own, wanted))
    return kept == other or min(len(kept), len(other)) <= 1


def _numbers(
    file: Path, name: str, array: NDArray[np.generic], wanted: Wanted, problems: Problems, left_out: Bools
) -> Floats | None:
    """The array as float32. Rows with missing values are marked in ``left_out`` where ``task.missing`` says so."""
    if array.dtype.kind not in "iufb":
        problems.add(Place(file), f"{name} is of type {array.dtype}, expected numbers")
        return None
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    missing = np.isnan(floats) if wanted.spec.missing != "refuse" else np.zeros(floats.shape, bool)
    wrong = ~np.isfinite(floats) & ~missing
    for at in np.argwhere(wrong):
        index = ", ".join(str(i) for i in at)
        problems.add(
            Place(file, name=f"{name}[{index}]"),
            f"= {array[tuple(at)]} is not a finite number",
            _CORRECT,
            f"{name}: not finite",
        )
    if wanted.spec.missing == "drop" or name == "y":
        wrong |= missing
    left_out |= wrong.reshape(len(floats), -1).any(axis=1)
    return floats


def _texts(
    file: Path, name: str, array: NDArray[np.generic], problems: Problems, left_out: Bools | None, may_lack: bool
) -> Texts:
    """The labels or clients of the rows; rows without are marked in ``left_out``, if they are to be left out."""
    texts = [str(text).strip() for text in array.tolist()]
    known: dict[str, int] = {}
    codes = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int64, len(texts))
    for code, text in enumerate(known):
        if text.casefold() in ("", "nan") or array.dtype.kind not in "iufUb":
            what = "label" if name == "y" else "client"
            rows = np.flatnonzero(codes == code)
            if not may_lack or array.dtype.kind not in "iufUb":
                expected = f"expected a {'class' if name == 'y' else 'client'}, a whole number or a name (str)"
                for i in rows:
                    problems.add(
                        Place(file, name=f"{name}[{i}]"), f"= {text!r} is not a {what}", expected, f"{name}: {expected}"
                    )
            if left_out is not None:
                left_out[rows] = True
            codes[rows] = UNKNOWN
    return Texts(codes, tuple(known))
