"""Finds what travels with the code but is not Python (firmware/, boards/, examples/), and where an installation may write."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def root() -> Path:
    """The checkout's top folder, or the data folder of an installed wheel; neither is ever written to by an installation."""
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


PLATFORMIO_CONFIG = ".pio/tinymetafed.ini"  # in a project of the user's own


def platformio_config() -> str:
    """What PlatformIO reads beside the platformio.ini of a project of the user's own: where this installation is."""
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
    """The user's folder for what can be made or downloaded again; it need not be there yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(cache) / "tinymetafed"
