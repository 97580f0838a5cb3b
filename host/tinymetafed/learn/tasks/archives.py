"""Archives of public data sets: finds or downloads them, checks them, and reads the files inside."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.locate import user_cache
from tinymetafed_codegen.packed import DAMAGED, PackedError, require_modest_zip

from . import DataError
from .tar_archive import is_tar, tar_files


@dataclass(frozen=True, slots=True)
class Archive:
    """A data set's archive.

    Attributes:
        name: File name.
        url: Address for the download.
        sha256: Expected SHA-256, hexadecimal; "" if the archive may be repacked, so that only its content can be checked.
        aliases: Other file names of the same archive.
    """

    name: str
    url: str
    sha256: str = ""
    aliases: Sequence[str] = ()

    def within(self, folder: Path) -> Path | None:
        """The archive's path in ``folder``; None if it is missing."""
        return next((folder / name for name in (self.name, *self.aliases) if (folder / name).is_file()), None)

    def require(self, path: Path) -> None:
        """Raises DataError if the file at ``path`` has another SHA-256 than this archive."""
        if self.sha256 and (found := sha256_of(path)) != self.sha256:
            raise DataError(
                f"{path}: damaged, or another version than {self.url}: its SHA-256 is {found}, expected {self.sha256}; "
                "download that version, or pass the path of this file with --data to use it anyway"
            )


def downloaded(archive: Archive) -> Path:
    """Path of the archive in the user's cache folder; downloads and checks it if it is missing. Raises DataError."""
    folder = user_cache() / "data"
    path = folder / archive.name
    if path.is_file() and archive.sha256 in ("", sha256_of(path)):
        return path
    import pooch  # imported here because it loads an HTTP client that no other command needs

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(archive.url, f"sha256:{archive.sha256}" if archive.sha256 else None, archive.name, folder))
    except (OSError, ValueError) as error:  # OSError: no network or no such file; ValueError: wrong SHA-256
        raise DataError(
            f"{archive.name}: cannot be downloaded ({error}). Get it from {archive.url} and put it into {folder}, or give the "
            "folder it is in with --data"
        ) from None


def files(path: Path, source: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a zip or tar archive.

    Args:
        path: Path of the archive.
        source: Address of the archive, for error messages.

    Raises:
        DataError: The archive is missing, damaged or neither zip nor tar.
    """
    try:
        if is_tar(path):
            yield from tar_files(path)
        else:
            with zipfile.ZipFile(path) as archive:
                require_modest_zip(archive, path.stat().st_size)
                for name in archive.namelist():
                    if not name.endswith("/"):
                        yield name, archive.read(name)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; get it from {source}") from None
    except PackedError as error:
        raise DataError(f"{path}: {error}, which no such archive does; get it again from {source}") from None
    except (*DAMAGED, tarfile.TarError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise DataError(f"{path}: cannot be read ({error})") from error
        raise DataError(f"{path}: damaged or not a zip or tar archive ({error}); get it again from {source}") from error


def sha256_of(path: Path) -> str:
    """A file's SHA-256, hexadecimal. Raises DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
