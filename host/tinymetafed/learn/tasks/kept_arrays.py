"""Arrays that take long to make from the archives of a data set, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.locate import user_cache
from tinymetafed_codegen.temporary import temporary_folder

Arrays = Mapping[str, NDArray[Any]]


def kept_arrays(file: str, recipe: str, names: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
    """Reads arrays from the cache; makes and stores them if they are missing there or damaged.

    Args:
        file: Folder in the cache, and the beginning of the file's name, for instance "features/speech".
        recipe: All that the arrays depend on: the SHA-256 of the archives, and how they are made.
        names: Names of the arrays.
        make: Makes the arrays.

    Returns:
        The arrays by name. Where the cache cannot be written, they are made each time.
    """
    path = user_cache() / f"{file}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.npz"
    with suppress(Exception), np.load(path) as arrays:  # whatever reading a damaged file may raise
        return {name: arrays[name] for name in names}
    made = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(parent=path.parent) as folder:
            np.savez(folder / path.name, allow_pickle=False, **made)
            (folder / path.name).replace(path)  # atomic, because another process may write the same file
    return made
