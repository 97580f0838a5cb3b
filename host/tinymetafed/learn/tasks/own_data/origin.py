"""Where data lie: a folder, a ZIP archive of one, or a published record that its DOI names and that is downloaded once."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tinymetafed_codegen.locate import user_cache
from tinymetafed_codegen.packed import PackedError, require_modest_zip
from tinymetafed_codegen.spec import PUBLISHED
from tinymetafed_codegen.temporary import temporary_folder

from .. import DataError
from ..archives import sha256_of


def located(path: Path) -> Path:
    """The folder with the files that ``task.path`` or --data names.

    Args:
        path: A folder; a ZIP archive, which is unpacked into the user's cache folder; or ``doi:PREFIX/RECORD``, whose files are
            downloaded into it.

    Returns:
        A folder; ``path`` itself if it is neither an archive nor a DOI.

    Raises:
        DataError: The archive is damaged, or the record cannot be downloaded.
    """
    if path.as_posix().startswith(PUBLISHED):
        return _downloaded(path.as_posix())
    return _unpacked(path) if path.suffix.lower() == ".zip" and path.is_file() else path


def _unpacked(archive: Path) -> Path:
    """The archive's content in the cache, unpacked once."""
    folder = user_cache() / "unpacked" / f"{archive.stem}-{sha256_of(archive)[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder(parent=folder.parent) as place, zipfile.ZipFile(archive) as opened:
            made = place / "content"
            made.mkdir()
            require_modest_zip(opened, archive.stat().st_size)
            for member in opened.namelist():
                parts = PurePosixPath(member).parts
                if not member.endswith("/") and ".." not in parts and not member.startswith("/"):
                    opened.extract(member, made)
            made.rename(folder)
    except PackedError as error:
        raise DataError(f"{archive}: {error}; unpack it yourself if you know who made it, and name the folder") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive}: damaged, or not a ZIP archive that can be read ({error}); get it again") from None
    except OSError as error:
        if folder.is_dir():  # another process was faster
            return folder
        raise DataError(f"{archive}: cannot be unpacked into {folder} ({error})") from None
    return folder


def _downloaded(doi: str) -> Path:
    """The folder with the record's files, ZIP archives among them unpacked into folders of their names."""
    folder = user_cache() / "data" / doi.removeprefix(PUBLISHED).replace("/", "-")
    complete = folder / "complete"
    if complete.is_file():
        return folder / "files"
    import pooch  # imported here because it loads an HTTP client that no other command needs

    pooch.get_logger().setLevel("WARNING")
    record = pooch.create(path=folder / "record", base_url=f"{doi}/")
    try:
        record.load_registry_from_doi()
        (folder / "files").mkdir(parents=True, exist_ok=True)
        for name in record.registry_files:
            file = Path(record.fetch(name))
            target = folder / "files" / file.stem
            if file.suffix.lower() == ".zip":
                shutil.copytree(_unpacked(file), target, dirs_exist_ok=True)
            else:
                shutil.copy(file, target.with_suffix(file.suffix))
    except (OSError, ValueError) as error:  # OSError: no network; ValueError: no such record, or a wrong checksum
        address = f"https://doi.org/{doi.removeprefix(PUBLISHED)}"
        raise DataError(
            f"{doi}: cannot be downloaded ({error}). Get its files from {address}, and give their folder or archive with --data"
        ) from None
    complete.touch()
    return folder / "files"
