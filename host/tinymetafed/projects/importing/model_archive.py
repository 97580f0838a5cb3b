"""Checks how large the parts of a .keras file become when they are unpacked, before anything unpacks them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ...runs.tensorflow import ModelFileError

MOST_JSON = 16 << 20  # bytes; Python's objects take several times as many
MOST_UNPACKED = 1 << 30  # bytes of all parts together
MOST_TIMES = 20  # weights hardly become smaller when they are packed


def require_bounded(file: Path) -> None:
    """Raises ModelFileError if the parts of a .keras file take far more memory than a network for a board can need.

    Sizes are those that the archive names; Python's zipfile unpacks no more than that. Other files are not checked.
    """
    if not zipfile.is_zipfile(file):
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


_REMEDY = "no network for a board is so large; save it again with model.save()"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
