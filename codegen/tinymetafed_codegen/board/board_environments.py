"""The PlatformIO environments of boards, which say how each is built."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from ..locate import find
from .board_errors import BoardError


def environments(file: Path) -> dict[str, str]:
    """The board of each PlatformIO environment, by the environment's name.

    Args:
        file: The installed environments.ini, or the platformio.ini of a project. For a project PlatformIO also reads the
            installed environments.ini, the project's boards/environments.ini, and the files that its extra_configs name.

    Raises:
        BoardError: A file cannot be read.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    ours = find("boards") / "environments.ini"
    try:
        parser.read_string(file.read_text(encoding="utf-8"), str(file))
        patterns = re.split(r"[,\n]", parser.get("platformio", "extra_configs", fallback=""))
        extra = [path for pattern in patterns if pattern.strip() for path in sorted(file.parent.glob(pattern.strip()))]
        own = [path for path in [file.parent / "boards" / "environments.ini", *extra] if path.is_file()]
        for each in [ours, *own] if file != ours else []:
            parser.read_string(each.read_text(encoding="utf-8"), str(each))
    except (OSError, ValueError, NotImplementedError, configparser.Error) as error:
        said = " ".join(str(error).split())
        raise BoardError(f"{file}: cannot be read: {said}") from None
    found = [section for section in parser.sections() if section.startswith("env:")]
    return {section.removeprefix("env:"): parser.get(section, "board", fallback="") for section in found}
