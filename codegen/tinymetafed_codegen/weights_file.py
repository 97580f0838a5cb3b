"""Reads weights from an npz file: the values of frozen layers, the initial values of the others, or trained ones."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .packed import DAMAGED, require_modest_npz
from .spec import SpecError

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[Any]  # float32, or the integers of frozen layers in integer arithmetic
ROUNDS = "rounds"  # the array of a run's weights that is no tensor: the number of rounds trained


def read(
    path: str,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
    integers: Mapping[str, str] = MappingProxyType({}),
    besides: Collection[str] = (),
) -> dict[str, Values]:
    """Reads an npz file.

    Args:
        path: The file.
        shapes: The shapes of all tensors of the model, by names such as dense1.kernel.
        where: The file's name in errors, and what asks for it.
        integers: The dtypes, "int8" or "int32", of tensors that are not float32.
        besides: Names of other arrays that the file may have; they are left out.

    Returns:
        The arrays by name, float32 or as ``integers`` says; of a run's weights without the number of rounds.

    Raises:
        SpecError: The file cannot be read, or an array is unknown, has another shape, is not finite or holds no integers.
    """
    try:
        require_modest_npz(Path(path))
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, npt.NDArray[Any]] = {name: file[name] for name in file.files}
            if others := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"it is an archive of other files, such as {others[0]}")
    except FileNotFoundError:
        raise SpecError(f"{where}: no such file") from None
    except DAMAGED as error:
        reason = "it holds other objects" if "allow_pickle" in str(error) else str(error)
        raise SpecError(f"{where}: not an npz file of numbers: {reason}") from None
    found.pop(ROUNDS, None)
    arrays: dict[str, Values] = {}
    for name, array in found.items():
        if name not in shapes and name in besides:
            continue
        if name not in shapes:
            near = difflib.get_close_matches(name, shapes, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(shapes)}"
            raise SpecError(f"{where}: the model has no '{name}'; {hint}")
        if array.dtype.kind not in "fiu":
            raise SpecError(f"{where}: '{name}' holds {array.dtype}, expected numbers")
        if array.shape != shapes[name]:
            raise SpecError(f"{where}: '{name}' has the shape {list(array.shape)}, expected {list(shapes[name])}")
        if name in integers:
            arrays[name] = array.astype(integers[name])
            if not np.array_equal(arrays[name], array):
                raise SpecError(f"{where}: '{name}' holds numbers that are not {integers[name]}; import the model again")
            continue
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise SpecError(f"{where}: '{name}' holds a NaN or a number beyond float32")
    return arrays
