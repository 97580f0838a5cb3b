"""What the pages show at the moment, read when somebody looks: the parts of each page, and when each part changed last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .live_page import OVERVIEW_PARTS, RUN_PARTS, Parts, doing_parts, overview_parts, report_parts
from .run_watch import Look, RunWatch, Signature, look, signature_of

PAUSE_SECONDS = 0.5  # between two looks at what runs say they are doing
SHARE = 10.0  # stores are read so that watching never takes more than this part of a processor
MAX_READ = 4  # runs whose content is kept while they are watched


class View:
    """The parts of a page. Whoever knows a version of it is told the parts that have changed since, never each change."""

    def __init__(self) -> None:
        self.version = 0
        self._parts: dict[str, tuple[int, str]] = {}  # the version in which it changed last, and its HTML

    def update(self, parts: Mapping[str, str]) -> None:
        """Takes in parts of the page; the version goes up if one has changed."""
        changed = {name: html for name, html in parts.items() if self._parts.get(name, (0, None))[1] != html}
        if changed:
            self.version += 1
            self._parts |= {name: (self.version, html) for name, html in changed.items()}

    def since(self, version: int) -> Parts:
        """The parts that have changed after a version."""
        return {name: html for name, (changed, html) in self._parts.items() if changed > version}


@dataclass(frozen=True)
class _ReadRun:
    """A run that is watched: its store as it was read, whether it was training then, and its parts; ``due``: the next read."""

    look: Look
    signature: Signature
    is_watched: bool
    parts: Parts
    due: float


class Views:
    """The views of the runs in a folder, by key; "" is the first page: of all runs, or of the only one.

    What runs say they are doing is read often, stores less often the longer that takes.
    """

    def __init__(self, watch: RunWatch, clock: Callable[[], float] = time.monotonic) -> None:
        self.watch = watch
        self._clock = clock
        self._views: dict[str, View] = {}
        self._seen: dict[str, float] = {}  # when each view was brought up to date
        self._overview_due = 0.0
        self._runs: dict[str, _ReadRun] = {}
        self._reading = asyncio.Lock()

    @property
    def several(self) -> bool:
        """Whether the first page is that of several runs."""
        return "" not in self.watch.runs()

    async def view(self, key: str, at_once: bool = False) -> View | None:
        """A view that is at most a little out of date; None if there is no such run.

        Args:
            key: The run, or "" for the first page.
            at_once: Reads what is there now, in any case.
        """
        async with self._reading:
            if key not in self._seen or at_once or self._clock() - self._seen[key] >= PAUSE_SECONDS:
                parts = await asyncio.to_thread(self._read, key, at_once)
                if parts is None:
                    self._views.pop(key, None)
                    return None
                self._views.setdefault(key, View()).update(parts)
                self._seen[key] = self._clock()
            return self._views.get(key)

    def _read(self, key: str, at_once: bool) -> Parts | None:
        """The parts of a page that may have changed; None if there is no such run."""
        runs = self.watch.runs()
        if not key and "" not in runs:
            return self._read_overview(at_once)
        path = runs.get(key)
        if path is None:
            return None
        parts = self._read_run(key, path, at_once)
        return parts if key else {**dict.fromkeys(OVERVIEW_PARTS, ""), **parts}

    def _read_overview(self, at_once: bool) -> Parts:
        began = self._clock()
        if "" in self._seen and not at_once and began < self._overview_due:
            return {}
        parts = overview_parts(self.watch.folder.resolve().name, self.watch.states())
        self._overview_due = self._later(began)
        return {**dict.fromkeys(RUN_PARTS, ""), **parts}

    def _read_run(self, key: str, path: Path, at_once: bool) -> Parts:
        signature, known = signature_of(path), self._runs.get(key)
        state = None if known is None else self.watch.at_work(path, known.look.state)
        is_watched = state is not None and state.status is not None
        if known is not None and known.signature != signature:
            has_ended = known.is_watched and not is_watched
            if at_once or has_ended or self._clock() >= known.due:
                known = None
        if known is None or state is None:
            began = self._clock()
            found = look(path)
            state = self.watch.at_work(path, found.state)
            is_watched = state.status is not None
            known = _ReadRun(found, signature, is_watched, report_parts(found, is_watched), self._later(began))
        elif known.is_watched != is_watched:
            known = replace(known, is_watched=is_watched, parts=report_parts(known.look, is_watched))
        self._runs.pop(key, None)
        self._runs[key] = known
        while len(self._runs) > MAX_READ:
            self._runs.pop(next(iter(self._runs)))
        return {**known.parts, **doing_parts(state)}

    def _later(self, began: float) -> float:
        """When what took from ``began`` until now may be done again."""
        now = self._clock()
        return now + SHARE * (now - began)


def order(parts: Parts) -> list[tuple[str, str]]:
    """The parts of a page from its top to its bottom."""
    return [(name, parts[name]) for name in (*OVERVIEW_PARTS, *RUN_PARTS) if name in parts]
