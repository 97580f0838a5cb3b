"""The URL of a line over a network: scheme, host, port, path, and options that name files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class NetworkUrl:
    """The parts of a URL, each as it is written; which of them a line needs, the line checks.

    Attributes:
        scheme: What stands before ``://``, in lower case.
        host: Name or IP address; "" without one.
        port: TCP port; None without one, or for 0.
        path: What follows host and port.
        user: User before the host; None without one.
        has_fragment: Whether something follows a ``#``.
        files: Files by the option that names them.
        options: The text from ``?`` on; "" without options.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    user: str | None
    has_fragment: bool
    files: dict[str, Path]
    options: str

    @classmethod
    def parse(cls, url: str, options: Sequence[str]) -> NetworkUrl:
        """Parses a URL.

        Args:
            url: ``SCHEME://HOST:PORT/PATH?OPTION=FILE&OPTION=FILE``. A file's name may have any character, and ends before
                ``&`` and the name of another option.
            options: Names of the options.

        Raises:
            ValueError: The port is not a number, brackets of an IPv6 address do not match, or an option is unknown, empty
                or given twice.
        """
        names = "|".join(options)
        place, asked, rest = url.partition("?")
        matches = list(re.finditer(rf"({names})=(.+?)(?=&(?:{names})=|$)", rest))
        files = {match[1]: Path(match[2]) for match in matches}
        if "&".join(match[0] for match in matches) != rest or len(files) < len(matches) or (asked and not rest):
            raise ValueError("options")
        parts = urlsplit(place)
        return cls(
            parts.scheme,
            parts.hostname or "",
            parts.port or None,
            parts.path,
            parts.username,
            bool(parts.fragment),
            files,
            f"{asked}{rest}",
        )
