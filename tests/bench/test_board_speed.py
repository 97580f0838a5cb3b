"""`bench board` writes one JSON file, and says whose clock its times are from; tests/emulator measures every kind of device."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from small_runs import manifest, sine

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.bench import board_speed
from tinymetafed.bench.board_speed import BOARD_CLOCK, HOST_CLOCK, PROCESS_CLOCK
from tinymetafed_codegen.protocol import Phase, Progress, SampleSet, State, Status, Variant


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements that are too short to be exact."""
    for name, value in (("STEP_SECONDS", 0.01), ("LINE_BYTES", 1500), ("ROUND_TRIPS", 3), ("MOST_STEPS", 500)):
        monkeypatch.setattr(board_speed, name, value)


@pytest.mark.usefixtures("built_once", "short")
def test_the_command_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sine_file = str(tmf.example("sine.toml"))
    monkeypatch.setattr("sys.argv", ["tinymetafed", "bench", "board", "native:1", sine_file])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    said = capsys.readouterr().out
    assert PROCESS_CLOCK in said and "Written: bench-native.json" in said
    written = json.loads((tmp_path / "bench-native.json").read_text())
    assert written["board"] == "native" and written["clock"] == PROCESS_CLOCK and written["model"] == "sine.toml"
    assert "unique_id" not in json.dumps(written) and str(Path.home()) not in json.dumps(written)
    monkeypatch.setattr("sys.argv", ["tinymetafed", "bench", "board", "native:1", "-o", "folder/figures.json", "--json"])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "folder" / "figures.json").read_text())


def test_one_device_is_measured_at_a_time() -> None:
    with pytest.raises(tmf.UsageError, match="device 'native:4': 4 devices; measure one at a time, for instance native:1"):
        tmf.bench_board("native:4", progress=False)


@dataclass
class Still:
    """A session with a board whose clock stands still: 2 ms of messages, and 0.5 ms per step."""

    clock: FakeClock = field(default_factory=FakeClock)
    counts: list[int] = field(default_factory=list)
    ticks: int = 0

    def next_token(self) -> int:
        return 1

    def configure(self, *_: object) -> None: ...

    def load(self, *_: object) -> None: ...

    def train(self, *_: object) -> None: ...

    def await_done(self, token: int, count: int) -> Progress:
        self.counts.append(count)
        self.clock.sleep(0.002 + 0.0005 * count)
        return Progress(token, State.DONE, Status.OK, count, self.ticks)


def test_a_board_without_a_clock_is_timed_by_the_hosts_without_the_messages() -> None:
    session = Still()
    phase = Phase(Variant.FULL, SampleSet.SUPPORT, board_speed.FIRST_STEPS, 1, 1e-6, 0.0)
    times, steps, by_board = board_speed._step_times(session, manifest(sine()), [], phase, 1_000_000)  # type: ignore[arg-type]
    assert not by_board and "host" in HOST_CLOCK and BOARD_CLOCK != HOST_CLOCK
    assert times == pytest.approx([500.0] * 3) and session.counts == [8, steps, steps, steps] and steps > 1000


def test_a_board_that_has_no_ticks_in_a_second_has_no_clock() -> None:
    phase = Phase(Variant.FULL, SampleSet.SUPPORT, board_speed.FIRST_STEPS, 1, 1e-6, 0.0)
    times, _, by_board = board_speed._step_times(Still(ticks=7), manifest(sine()), [], phase, 0)  # type: ignore[arg-type]
    assert not by_board and times == pytest.approx([500.0] * 3)
    assert board_speed._each(7, 1e6, 0, 3) is None and board_speed._each(7, 1e6, 1000, 0) is None
    assert board_speed._each(6, 1e6, 1000, 3) == 2000


def measured(monkeypatch: pytest.MonkeyPatch, *seconds: tuple[float, float]) -> tuple[list[float], int, bool]:
    """What `_step_times` makes of programs that take so many seconds by the board's clock and by the host's."""
    times = iter([board_speed._Timed(by_board, by_host) for by_board, by_host in seconds])
    monkeypatch.setattr(board_speed, "_timed", lambda *_: next(times))
    phase = Phase(Variant.LOCAL, SampleSet.SUPPORT, board_speed.FIRST_STEPS, 1, 1e-6, 0.0)
    return board_speed._step_times(Still(), manifest(sine()), [], phase, 1_000_000)  # type: ignore[arg-type]


def test_first_steps_that_are_shorter_than_a_tick_do_not_make_a_clock_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    times, steps, by_board = measured(monkeypatch, (0, 0.004), *[(2e-5, 0.001)] * 3)
    assert by_board and steps > board_speed.FIRST_STEPS and times == pytest.approx([20 / steps] * 3)


def test_a_busy_host_measures_no_time_of_0(monkeypatch: pytest.MonkeyPatch) -> None:
    times, steps, by_board = measured(monkeypatch, (0, 0.002), (0, 0.006), (0, 0.0005), (0, 0.002))
    assert not by_board and times == pytest.approx([4000 / (steps - 8), 500 / steps, 2000 / steps])
