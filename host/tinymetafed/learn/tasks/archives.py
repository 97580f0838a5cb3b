"""A data set's archives as their authors publish them: where the user says they are, or downloaded once; and their files."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.locate import user_cache

from . import DataError


@dataclass(frozen=True, slots=True)
class Archive:
    """A file with the address to get it from; ``sha256`` is "" where only its content can be judged.

    ``aliases``: other names that it goes by.
    """

    name: str
    url: str
    sha256: str = ""
    aliases: Sequence[str] = ()

    def within(self, folder: Path) -> Path | None:
        """The archive's path in a folder, None where it is not there."""
        return next((folder / name for name in (self.name, *self.aliases) if (folder / name).is_file()), None)

    def require(self, path: Path) -> None:
        """Raises DataError unless the file at ``path`` is this very archive."""
        if self.sha256 and (found := sha256_of(path)) != self.sha256:
            raise DataError(
                f"{path}: damaged, or another version than {self.url}: its SHA-256 is {found}, expected {self.sha256}; get "
                "that one, or name this very file with --data to use it all the same"
            )


def downloaded(archive: Archive) -> Path:
    """The archive in the user's cache folder, brought there and checked unless it is there. Raises DataError."""
    folder = user_cache() / "data"
    path = folder / archive.name
    if path.is_file() and archive.sha256 in ("", sha256_of(path)):
        return path
    import pooch  # on first use: it brings an HTTP client, which no other command needs

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(archive.url, f"sha256:{archive.sha256}" if archive.sha256 else None, archive.name, folder))
    except (OSError, ValueError) as error:  # no network or no such file; another file than expected
        raise DataError(
            f"{archive.name}: cannot be downloaded ({error}). Get it from {archive.url} and put it into {folder}, or give the "
            "folder it is in with --data"
        ) from None


def files(path: Path, source: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a zip or tar archive; ``source`` says in errors where to get it. Raises DataError."""
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for member in tar:
                    if (content := tar.extractfile(member)) is not None:
                        yield member.name, content.read()
        else:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        yield name, archive.read(name)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; get it from {source}") from None
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged or not a zip or tar archive ({error}); get it again from {source}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def sha256_of(path: Path) -> str:
    """A file's SHA-256, hexadecimal. Raises DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
