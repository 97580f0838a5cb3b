"""What a gateway shows: a bar over the rounds of a run in a terminal, and few lines in a log, however many rounds there are."""

from __future__ import annotations

import io

import pytest
from clocks import HeldClock
from gateways_in_memory import ROUNDS, setup, site, trained
from rich.console import Console
from rich.progress import Progress

from tinymetafed.api import progress, terminal
from tinymetafed.api.progress import Bars, Calls, Lines, ProgressEvent
from tinymetafed.gateways.gateway_progress import LINE_SECONDS, GatewayProgress


def test_a_long_run_takes_few_lines_of_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_standard_error", terminal.Terminal(stderr=True))
    clock = HeldClock()
    shown = GatewayProgress(Lines(), "gateway lab with 8 boards", 1000, clock)
    shown.waiting()
    shown.run_begins()
    for number in range(1000):
        clock.advance(LINE_SECONDS / 128)
        shown.round_done(number, 8)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "gateway lab with 8 boards: waiting for a run",
        "gateway lab with 8 boards: rounds of a run (1,000)",
        "  round 1 of 1,000, 8 clients here",
    ]
    assert lines[-2:] == ["  round 1,000 of 1,000, 8 clients here", "gateway lab with 8 boards: waiting for a run"]
    assert len(lines) == 2 + 1 + 7 + 1 + 1, "the first round, one in a minute, the last"


def test_a_terminal_shows_how_far_the_run_is() -> None:
    with Progress(console=Console(file=io.StringIO(), force_terminal=True), auto_refresh=False) as bars:
        shown = GatewayProgress(Bars(bars), "gateway lab", 40, HeldClock())
        shown.run_begins()
        for number in (9, 9, 19):  # a continued run begins later; a round may be asked for twice
            shown.round_done(number, 2)
        (task,) = bars.tasks
        assert (task.description, task.completed, task.total) == ("gateway lab: rounds of a run", 20, 40)
        shown.run_begins()
        (task,) = bars.tasks
        assert task.completed == 0


def test_a_gateway_tells_of_every_run_and_round_that_it_serves() -> None:
    there, events = site(4), list[ProgressEvent]()
    shown = GatewayProgress(Calls(events.append), "lab0", ROUNDS, HeldClock())
    gateway = there.backhaul.gateways[1]
    gateway.on_run, gateway.on_round = shown.run_begins, shown.round_done
    there.clients.roster.gather(1)
    trained(setup(), there.clients)
    stages = [event.stage for event in events]
    assert list(dict.fromkeys(stages)) == ["lab0: rounds of a run", "lab0: waiting for a run"]
    assert [event.done for event in events if event.total][-1] == ROUNDS
