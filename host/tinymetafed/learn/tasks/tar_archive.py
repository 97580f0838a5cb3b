"""Reads the files of a tar archive, whose headers may be as large as its writer likes, in a bounded amount of memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from tinymetafed_codegen.packed import DAMAGED, PackedError, require_modest

MOST_HEADER = 1 << 17  # bytes of all headers before one file; a path has at most some thousand
_PIECE = 1 << 16


class _Unpacked(io.RawIOBase):
    """The unpacked archive for the tarfile module, which reads a header whole, however long the archive says it is.

    ``left`` is how many bytes may be read until it is set again.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.left = MOST_HEADER

    def read(self, size: int = -1, /) -> bytes:
        """See IO. Raises PackedError beyond ``left``."""
        if not 0 <= size <= self.left:
            raise PackedError(f"it has a header of more than {MOST_HEADER >> 10:,} KiB")
        self.left -= size
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """See IO."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """See IO."""
        return self._stream.tell()


def is_tar(path: Path) -> bool:
    """Whether it begins as a tar archive does, packed or not. Raises OSError, PackedError."""
    with _opened(path) as stream:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", _Unpacked(stream)), mode="r:"):
                return True
        except PackedError:
            raise
        except (*DAMAGED, tarfile.TarError):
            return False


def tar_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every regular file; links and devices are left out.

    Raises:
        TarError or what packed.DAMAGED lists: It is damaged.
        PackedError: It unpacks to far more than it holds, or a header is far too long.
    """
    packed, unpacked, number = path.stat().st_size, 0, 0
    with _opened(path) as stream:
        limited = _Unpacked(stream)
        with tarfile.open(fileobj=cast("IO[bytes]", limited), mode="r:") as tar:
            while (member := tar.next()) is not None:
                number += 1
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name} has a negative size")
                unpacked += member.size + MOST_HEADER - limited.left
                require_modest(unpacked, packed, number)
                if sum(len(value) for value in tar.pax_headers.values()) > MOST_HEADER:
                    raise PackedError(f"its headers for all files have more than {MOST_HEADER >> 10:,} KiB")
                tar.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it; they would be kept until the end
                if member.isreg() and (content := tar.extractfile(member)) is not None:
                    limited.left = member.size + io.DEFAULT_BUFFER_SIZE
                    # In pieces, because that many bytes may not be there.
                    yield member.name, b"".join(iter(partial(content.read, _PIECE), b""))
                limited.left = MOST_HEADER


def _opened(path: Path) -> IO[bytes]:
    """The archive, unpacked while it is read."""
    with path.open("rb") as file:
        begins = file.read(6)
    if begins.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path))
    if begins.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(path))
    if begins == b"\xfd7zXZ\0" or begins.startswith(b"\x5d\0\0"):
        return cast("IO[bytes]", lzma.open(path))
    return path.open("rb")
