"""Stands for a vendor's PlatformIO platform: gives the platform itself, or says what is missing where it cannot be downloaded.

PlatformIO installs a platform before any script of a project runs, so only a platform can say this. Each folder beside this
file has the name of one, and in its platform.json the exact version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests
from platformio import __registry_mirror_hosts__
from platformio.exception import UserSideException
from platformio.package.manager.platform import PlatformPackageManager
from platformio.platform.base import PlatformBase
from platformio.platform.factory import PlatformFactory
from platformio.project.config import ProjectConfig

REACHED_SECONDS = 10.0


class PackagesMissing(UserSideException):  # type: ignore[misc]  # PlatformIO is untyped
    """Packages of a vendor are neither installed nor can be downloaded."""

    MESSAGE = "{0}"


def vendor_platform(here: str) -> type[PlatformBase]:
    """The class of the platform in the folder of the file ``here``; its only instance is the vendor's platform."""
    folder = Path(here).parent
    manifest = json.loads((folder / "platform.json").read_text(encoding="utf-8"))
    spec = f"platformio/{folder.name}@{manifest['version']}"

    class Vendor(PlatformBase):  # type: ignore[misc]
        def __new__(cls, *_: object) -> PlatformBase:
            return _installed(spec, manifest["downloads"])

    return Vendor


def _installed(spec: str, downloads: list[str]) -> PlatformBase:
    """The vendor's platform, installed if it is not yet. Raises PackagesMissing; ``downloads`` are packages that it needs."""
    manager = PlatformPackageManager()
    package = manager.get_package(spec)
    if package is None:
        _require_network([f"{spec.replace('@', ' @ ')} (the board's platform)", *(f"platformio/{name}" for name in downloads)])
        package = manager.install(spec, skip_dependencies=True)
    platform = PlatformFactory.new(package)
    install = platform.install_required_packages

    def install_required_packages(*given: Any, **named: Any) -> None:
        missing = [
            platform.get_package_spec(name).humanize()
            for name, options in platform.packages.items()
            if not options.get("optional") and platform.get_package(name) is None
        ]
        if missing:
            _require_network(missing)
        install(*given, **named)

    platform.install_required_packages = install_required_packages
    return platform


def _require_network(missing: list[str]) -> None:
    """Raises PackagesMissing if PlatformIO's registry cannot be reached."""
    for host in __registry_mirror_hosts__:
        try:
            requests.head(f"https://api.{host}", timeout=REACHED_SECONDS)
            return
        except requests.exceptions.RequestException:
            continue
    folder = ProjectConfig.get_instance().get("platformio", "core_dir")
    raise PackagesMissing(
        f"missing {', '.join(missing)}; PlatformIO downloads them at the first build, and this machine does not reach "
        f"{__registry_mirror_hosts__[0]}; connect it to the network, or set HTTPS_PROXY, and run the command again; or copy "
        f"{folder} from a machine of the same kind that has built for this board; boards that are emulated need no network"
    )
