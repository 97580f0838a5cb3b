"""Checks how large the content of a .keras or .h5 file becomes in memory, before anything loads it."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ...runs.tensorflow import ModelFileError, require

MOST_JSON = 16 << 20  # bytes; Python's objects take several times as many
MOST_UNPACKED = 1 << 30  # bytes of all parts together
MOST_TIMES = 20  # weights hardly become smaller when they are packed


def require_bounded(file: Path) -> None:
    """Raises ModelFileError if a file takes far more memory than a network for a board can need.

    The sizes of a .keras file's parts are those that the archive names; Python's zipfile unpacks no more than that. Weights in
    HDF5 are counted as arrays: they may be packed, or have no values in the file.
    """
    if not zipfile.is_zipfile(file):
        _require_bounded_arrays(file, file)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return  # a damaged file, of which Keras' own words say more
    for part in parts:
        if part.filename.endswith(".json") and part.file_size > MOST_JSON:
            raise ModelFileError(
                f"{file}: {part.filename}: {_mib(part.file_size)} unpacked, more than {_mib(MOST_JSON)}; {_REMEDY}"
            )
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MOST_UNPACKED or unpacked > MOST_JSON + MOST_TIMES * file.stat().st_size:
        raise ModelFileError(f"{file}: {_mib(unpacked)} unpacked, from {_mib(file.stat().st_size)}; {_REMEDY}")
    with suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        _require_bounded_arrays(file, archive.open("model.weights.h5"))


def _require_bounded_arrays(file: Path, content: Path | IO[bytes]) -> None:
    """Raises ModelFileError if the arrays of HDF5 content are too large together; damaged content is left to Keras."""
    sizes: list[int] = []

    def add(name: str, item: Any) -> None:
        if hasattr(item, "nbytes"):
            sizes.append(int(item.nbytes))

    with suppress(OSError, RuntimeError, ValueError), require("h5py", str(file)).File(content, "r") as arrays:
        arrays.visititems(add)
    if sum(sizes) > MOST_UNPACKED:
        raise ModelFileError(f"{file}: arrays of {_mib(sum(sizes))}, more than {_mib(MOST_UNPACKED)}; {_REMEDY}")


_REMEDY = "no network for a board is so large; save it again with model.save()"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
