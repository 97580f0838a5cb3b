"""Reads weights from an npz file: the values of frozen layers and the initial values of the others."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .spec import SpecError

Floats = npt.NDArray[np.float32]


def read(path: str, shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Floats]:
    """Reads an npz file.

    Args:
        path: The file.
        shapes: The shapes of all tensors of the model, by names such as dense1.kernel.
        where: The file's name in errors, and what asks for it.

    Returns:
        The arrays as float32, by name.

    Raises:
        SpecError: The file cannot be read, or an array is unknown, has another shape, or is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, npt.NDArray[Any]] = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise SpecError(f"{where}: no such file") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = "it holds other objects" if "allow_pickle" in str(error) else str(error)
        raise SpecError(f"{where}: not an npz file of numbers: {reason}") from None
    arrays: dict[str, Floats] = {}
    for name, array in found.items():
        if name not in shapes:
            near = difflib.get_close_matches(name, shapes, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(shapes)}"
            raise SpecError(f"{where}: the model has no '{name}'; {hint}")
        if array.dtype.kind not in "fiu":
            raise SpecError(f"{where}: '{name}' holds {array.dtype}, expected numbers")
        if array.shape != shapes[name]:
            raise SpecError(f"{where}: '{name}' has the shape {list(array.shape)}, expected {list(shapes[name])}")
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise SpecError(f"{where}: '{name}' holds a NaN or a number beyond float32")
    return arrays
