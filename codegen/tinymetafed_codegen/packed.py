"""Checks how large the content of a ZIP or NPZ file becomes, before anything unpacks it: a small file may hold gigabytes."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

MOST_UNPACKED = 1 << 30  # bytes that any archive may unpack to
MOST_TIMES = 100  # its own size that a larger one may unpack to; tables of numbers become 3 to 20 times smaller
MOST_FILES = 1 << 20
# What Python and NumPy raise for content that somebody has damaged or made up.
DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


class PackedError(ValueError):
    """An archive that unpacks to far more than it holds; the text says to how much."""


def require_modest(unpacked: int, packed: int, files: int = 1) -> None:
    """Raises PackedError if an archive of ``packed`` bytes and so many files unpacks to unbelievably many bytes."""
    if files > MOST_FILES:
        raise PackedError(f"it has {files:,} files, more than {MOST_FILES:,}")
    if unpacked > max(MOST_UNPACKED, MOST_TIMES * packed):
        raise PackedError(f"it unpacks to {unpacked >> 20:,} MiB from {packed >> 10:,} KiB")


def require_modest_zip(archive: zipfile.ZipFile, packed: int) -> None:
    """Raises PackedError for a ZIP archive of ``packed`` bytes; its module unpacks no more than the sizes that it names."""
    members = archive.infolist()
    require_modest(sum(member.file_size for member in members), packed, len(members))


def require_modest_npz(file: Path) -> None:
    """Checks sizes and headers of an NPZ file; one that is no ZIP archive is left to NumPy.

    Raises:
        PackedError: It unpacks to far more than it holds, or an array claims more bytes than the file has for it.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        require_modest_zip(archive, file.stat().st_size)
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as content:
                version = np.lib.format.read_magic(content)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(content)
            if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize > member.file_size:
                raise PackedError(f"its array {member.filename} claims the shape {list(shape)}, more than the file has")
