"""Commands that watch runs: live and top, and the option --live of commands that train."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from .options import JsonOption
from .output import notes, results
from .run_results import score_text

PERIOD_SECONDS = 1.0  # between two looks of `top`
SHARE = 10.0  # and so many times what a look takes, so that watching long runs costs little
LATEST = 6  # evaluations and events that `top` shows
_COLOURS = {"training": "green", "starting": "yellow", "finished": "blue", "stopped": "red", "unreadable": "red"}

LiveOption = Annotated[
    bool,
    typer.Option("--live", help="Serve a page that grows with the run, to this machine alone; its address is printed."),
]
LiveAtOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help="The same at another address or port, for instance 0.0.0.0:8765 for all who reach this machine.",
    ),
]


@contextmanager
def served(folder: Path, live: bool, live_at: str | None) -> Iterator[None]:
    """Serves the page of a run while a command trains it, if that is asked for."""
    if not live and live_at is None:
        yield
        return
    with tmf.live(folder, live_at or "") as page:
        _say_where(page.url, page.address.exposure)
        yield


def live(
    runs: Annotated[Path, typer.Argument(help="Run folder, or a folder with run folders in it, for instance runs.")],
    live_at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="ADDRESS:PORT",
            help="Where to serve, for instance 0.0.0.0:8765 for all who reach this machine.",
            show_default="127.0.0.1:8765, or a free port",
        ),
    ] = "",
) -> None:
    """Serve a page of runs, finished or trained by another command: boards, curves, bytes, retries, outliers, energy.

    tinymetafed live runs
    """
    found = tmf.run_states(runs)
    with tmf.live(runs, live_at) as page:
        notes.print(f"{runs}: {len(found):,} run{'' if len(found) == 1 else 's'}", soft_wrap=True)
        _say_where(page.url, page.address.exposure)
        notes.print("Ctrl-C ends it; the runs go on.")
        page.wait()


def _say_where(url: str, exposure: str) -> None:
    notes.print(f"Live page: {url}", soft_wrap=True)
    if exposure:
        notes.print(Text.assemble(("Note:", "bold yellow"), f" {exposure}"), soft_wrap=True)


def top(
    runs: Annotated[Path, typer.Argument(help="Run folder, or a folder with run folders in it, for instance runs.")],
    once: Annotated[bool, typer.Option("--once", help="Print the state once and end, as for a script.")] = False,
    json_: JsonOption = False,
) -> None:
    """Watch runs in the terminal: boards, time of the round, scores, bytes, retries, outliers, energy.

    tinymetafed top runs
    """
    if json_:
        print(json.dumps([asdict(state) for state in tmf.run_states(runs)]))
        return
    console = results()
    if once or not console.is_terminal:
        console.print(_screen(tmf.run_states(runs), console))
        return
    from rich.live import Live  # imported here so that other commands start sooner

    with Live(_screen(tmf.run_states(runs), console), console=console, auto_refresh=False, screen=True) as shown:
        took = 0.0
        while True:
            time.sleep(max(PERIOD_SECONDS, SHARE * took))
            began = time.monotonic()
            shown.update(_screen(tmf.run_states(runs), console), refresh=True)
            took = time.monotonic() - began


def _screen(states: Sequence[tmf.RunState], console: Console) -> RenderableType:
    if not states:
        return Text("No run has begun here yet.")
    if len(states) == 1:
        return _of_one(states[0], console.width)
    table = Table(box=None, pad_edge=False)
    for name in ("run", "state", "rounds", "score", "of dense", "retries", "training"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right", overflow="fold")
    for state in states:
        shown = (_phase(state), f"{state.rounds:,} of {state.planned:,}", state.score, state.of_dense.split(" of")[0])
        table.add_row(state.name, *shown, f"{state.retries:,}", f"{state.seconds:,.0f} s")
    said = [Text(f"{state.name}: {state.step or state.problem}") for state in states if state.step or state.problem]
    said += [Text(f"{state.name}: {text}", "yellow") for state in states for text in state.outliers]
    return Group(table, *([Text(), *said] if said else []))


def _phase(state: tmf.RunState) -> Text:
    return Text(state.phase, _COLOURS[state.phase])


def _of_one(state: tmf.RunState, width: int) -> RenderableType:
    """One run: what it does, its figures, its boards, its latest scores and events."""
    from rich.progress_bar import ProgressBar

    parts: list[RenderableType] = [Text.assemble((state.name, "bold"), "  ", _phase(state), "  ", state.task)]
    if state.problem:
        parts.append(Text(state.problem))
    if (status := state.status) is not None:
        parts.append(Text.assemble(state.step, f"  for {max(0.0, time.time() - status.step_began):.0f} s"))
    if state.planned:
        bar = ProgressBar(total=state.planned, completed=min(state.rounds, state.planned), width=max(10, min(width, 80) - 12))
        parts.append(_figures(state, bar))
    if any(line.state is not None for line in state.boards):
        parts += [Text(), _boards(state)]
    if status is not None and status.events:
        parts += [Text(), *(Text(_clock(event.at) + event.text) for event in status.events[-LATEST:])]
    return Group(*parts)


def _figures(state: tmf.RunState, bar: RenderableType) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("", bar)
    table.add_row("rounds", f"{state.rounds:,} of {state.planned:,} in {state.seconds:,.1f} s")
    table.add_row("score", f"{state.score}  {state.score_context}")
    if latest := state.curve[-LATEST:]:
        table.add_row("curve", ", ".join(f"{point.round:,}: {score_text(point.after)}" for point in latest))
    table.add_row("bytes", f"{state.traffic}; {state.of_dense}")
    table.add_row("retries", f"{state.retries:,}; {state.redone:,} clients redone, {state.skipped:,} skipped")
    table.add_row("energy", f"{state.energy_text}, all clients, estimated")
    table.add_row("outliers", "; ".join(state.outliers) or "none")
    return table


def _boards(state: tmf.RunState) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("device", "state", "doing", "rounds", "retries", "board"):
        table.add_column(name, justify="right" if name in ("rounds", "retries") else "left", overflow="fold")
    for line in state.boards:
        if line.state is not None:
            retries = f"{line.state.retries:,}"
            table.add_row(line.url, line.state.presence, line.doing, f"{line.rounds:,}", retries, line.board)
    return table


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S  ", time.localtime(at))
