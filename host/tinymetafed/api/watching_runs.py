"""Watches runs while they train: their states as values, and pages for a browser."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import suggestion

from ..pages.addresses import parse_address
from ..pages.run_state import RunState as RunState
from ..pages.run_watch import RunWatch

if TYPE_CHECKING:
    from ..pages.page_server import LivePage


def live(folder: str | Path, address: str = "") -> LivePage:
    """Serves a page of a run, or of all runs in a folder, which grows while they train; at their end it is their report.

    Args:
        folder: A run folder or one with run folders in it, also if nothing is there yet.
        address: ADDRESS, ADDRESS:PORT or PORT to serve at; "" for this machine alone, on port 8765 or, where that is taken, a
            free one. Any other address lets whoever reaches it watch the runs.

    Returns:
        The page, served in a thread of its own until its ``close`` or the end of its ``with``. ``url`` is where it is.

    Raises:
        UsageError: The address cannot be used, or starlette and uvicorn are not installed.
    """
    where = parse_address(address)
    try:
        from ..pages.page_server import LivePage
    except ImportError as error:
        raise UsageError(
            f"the live page needs {error.name or 'starlette and uvicorn'}: pip install 'tinymetafed[live]'"
        ) from None
    return LivePage(Path(folder), where)


def run_states(folder: str | Path) -> list[RunState]:
    """The state of a run, or of each run in a folder, trained by any program of this machine.

    Called again, it reads only the runs that have changed.

    Args:
        folder: A run folder or one with run folders in it.

    Returns:
        A state for each run, in order of their names; one that cannot be read has its ``problem``.

    Raises:
        UsageError: There is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        remedy = "give a run folder, or one with run folders in it"
        raise UsageError(f"{path}: not a folder; {remedy if path.exists() else suggestion(path, remedy)}")
    return list(_watch(path.resolve()).states().values())


@lru_cache(maxsize=8)
def _watch(folder: Path) -> RunWatch:
    """The watch of a folder, which reads a run again only when it has changed."""
    return RunWatch(folder)
