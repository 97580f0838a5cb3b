"""PlatformIO development platform for boards described by one JSON file and built with the system's compilers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from platformio.platform.base import PlatformBase
from platformio.platform.board import PlatformBoardConfig


class TinymetafedPlatform(PlatformBase):  # type: ignore[misc]  # PlatformIO is untyped; it derives the class's name
    """Adds the boards' memory sizes, which are under "tinymetafed" in their JSON, to PlatformIO's base platform."""

    def is_embedded(self) -> bool:
        """Returns False: `upload` starts an emulator or a process, so PlatformIO must not look for a serial port."""
        return False

    def get_boards(self, id_: str | None = None) -> Any:
        """Returns one board's configuration, or all by name, with `upload.maximum_*` set for PlatformIO's size check.

        A board in the project's boards_dir has precedence over our board of that name.
        """
        ours = Path(self.get_dir()).parent / f"{id_}.json"
        own = Path(self.config.get("platformio", "boards_dir")) / ours.name
        if id_ not in self._BOARDS_CACHE and ours.is_file() and not own.is_file():
            self._BOARDS_CACHE[id_] = PlatformBoardConfig(str(ours))
            self._BOARDS_CACHE[id_].update("platform", self.name)
        found = super().get_boards(id_)
        for board in [found] if id_ else found.values():
            facts = board.get("tinymetafed")
            board.update("upload", {"maximum_ram_size": facts["ram_bytes"], "maximum_size": facts["flash_bytes"]})
        return found
