"""Finds the folders that are installed beside the Python code (firmware/, boards/, examples/), and the user's folders."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def root() -> Path:
    """The top folder of the checkout, or the data folder of an installed wheel, which is never written to."""
    checkout = _PACKAGE.parents[1]
    if (checkout / "platformio.ini").is_file() and (checkout / "firmware").is_dir():
        return checkout
    installed = _PACKAGE / "_data"
    if installed.is_dir():
        return installed
    raise FileNotFoundError(f"neither a checkout ({checkout}) nor an installation ({installed}) holds the firmware sources")


def is_checkout() -> bool:
    """Whether the code runs from a checkout, where builds go into .pio/."""
    return root() != _PACKAGE / "_data"


def find(name: str) -> Path:
    """A file or folder below the root, for instance ``boards``. Raises FileNotFoundError."""
    path = root() / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing from this installation")
    return path


PLATFORMIO_CONFIG = ".pio/tinymetafed.ini"  # in a user's project


def platformio_config() -> str:
    """The text of a file that tells the platformio.ini of a user's project where this installation is."""
    top = root().as_posix()
    return f"""; Where TinyMetaFed is on this machine; written anew when it is missing.
[platformio]
extra_configs =
  {top}/boards/environments.ini
  boards/environments.ini
src_dir = {top}/firmware

[tinymetafed]
root = {top}
"""


def user_cache() -> Path:
    """The user's cache folder for builds and downloads; it may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return Path(cache or Path.home() / ".cache") / "tinymetafed"
    except RuntimeError:  # a user without a home folder, as in a container
        return temporary_cache()


def user_state() -> Path:
    """The user's folder for what commands remember; it may not exist yet."""
    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return Path(state or Path.home() / ".local" / "state") / "tinymetafed"
    except RuntimeError:  # a user without a home folder, as in a container
        return temporary_cache()


def temporary_cache() -> Path:
    """A folder of this user's among the temporary files; it may not exist yet."""
    user = getattr(os, "getuid", lambda: "user")()
    return Path(tempfile.gettempdir()) / f"tinymetafed-{user}"
