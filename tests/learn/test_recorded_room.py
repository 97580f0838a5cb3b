"""The recording of a real room: files of the exact published format, what a moment is, who is tested, and errors by row."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tinymetafed.federation.meta_test import Group
from tinymetafed.learn.tasks import HELD_OUT, DataError
from tinymetafed.learn.tasks.presence import Presence
from tinymetafed.learn.tasks.recorded_room import FILES, read_room
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import PresenceTask, RunSpec, SpecError

HEADER = '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"'
SENSORS = ("CO2", "light", "temperature")
SPEC = PresenceTask(kind="presence", sensors=SENSORS, unseen="recorded")
MINUTES = 240


def line(number: int, quoted: bool, day: int) -> str:
    """A row as published: its number without a name in the header, and in one of the files times without quotes."""
    time = datetime(2015, 2, day, 8, 30) + timedelta(minutes=number, seconds=-(number % 2))
    occupied = number // 60 % 2
    when = f'"{time}"' if quoted else f"{time}"
    return f'"{number}",{when},{20 + number / 100},27.{number},{400 * occupied + day},{500 + number},0.0047,{occupied}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for day, name in enumerate(FILES, 2):
        rows = [line(number, name != "datatest2.txt", day) for number in range(1, MINUTES + 1)]
        (tmp_path / name).write_text("\n".join([HEADER, *rows]) + "\n")
    return tmp_path


def test_a_moment_has_values_and_changes_over_ten_minutes(folder: Path) -> None:
    room = read_room(folder, SENSORS)
    assert [period.name.partition(",")[0] for period in room.periods] == list(FILES)
    assert "2015-02-03 08:30 to 2015-02-03 12:30" in room.periods[1].name
    for day, period in enumerate(room.periods, 2):
        assert len(period.values) == MINUTES - 10 == len(period.occupied)
        np.testing.assert_allclose(period.values[0], [511, day, 20.11])
        np.testing.assert_allclose(period.changes[0], [10, 0, 0.1], atol=1e-9)
        assert period.changes[50].tolist() == pytest.approx([10, 400, 0.1])  # somebody came a minute ago
        assert period.occupied[:49].sum() == 0 and period.occupied[49:109].all()
    assert len(room.notes) == 3 and "datatest.txt is not the file that https://archive.ics.uci.edu" in room.notes[0]


def test_line_ends_of_windows_and_an_archive_give_the_same(folder: Path, tmp_path: Path) -> None:
    plain = read_room(folder, SENSORS)
    packed = tmp_path / "occupancy_data.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in FILES:
            archive.writestr(f"occupancy/{name}", (folder / name).read_text().replace("\n", "\r\n"))
            (folder / name).unlink()
    for place in (packed, tmp_path):
        again = read_room(place, SENSORS)
        assert again.sha256 == plain.sha256
        assert all(np.array_equal(a.values, b.values) for a, b in zip(again.periods, plain.periods, strict=True))


def test_a_gap_leaves_out_the_moments_without_a_change(folder: Path) -> None:
    rows = (folder / FILES[0]).read_text().splitlines()
    (folder / FILES[0]).write_text("\n".join(rows[:100] + rows[130:]))
    assert len(read_room(folder, SENSORS).periods[0].values) == MINUTES - 30 - 20


def test_a_period_is_tested_after_adapting_in_the_others(folder: Path) -> None:
    task = Presence.open(SPEC, RunSpec(rounds=1), SPEC.shapes, folder)
    scale = {"light": 300}
    for client in range(7):
        day_tested, *others = ([2, 3, 4] * 2)[client % 3 : client % 3 + 3]
        tested = task.test_samples(HELD_OUT + client, 0)
        adapted = task.samples(HELD_OUT + client, 0, SampleSet.ADAPT, 16)
        days = [set(np.rint((s.inputs[:, 1] + 1) * scale["light"]).astype(int) % 400) for s in (tested, adapted)]
        assert days[0] == {day_tested} and days[1] <= set(others)
        assert adapted.targets[:, 0].tolist() == [0, 1] * 8 and tested.targets.mean() == 0.5
        np.testing.assert_array_equal(task.samples(HELD_OUT + client, 0, SampleSet.ADAPT, 4).inputs, adapted.inputs[:4])
        assert len(task.samples_to_score(HELD_OUT + client, 16)) == MINUTES - 10
        assert task.units(HELD_OUT + client) == ("the office",)  # three periods of one room are no three rooms
    assert not np.array_equal(task.test_samples(HELD_OUT, 0).inputs, task.test_samples(HELD_OUT + 3, 0).inputs)
    assert Group.test(task).count == 3 and "an office, datatest.txt" in task.describe(HELD_OUT)
    every = Presence(1)
    np.testing.assert_array_equal(  # training clients are the synthetic rooms, without the motion sensor
        task.samples(5, 2, SampleSet.QUERY, 8).inputs, every.samples(5, 2, SampleSet.QUERY, 8).inputs[:, [0, 1, 2, 4, 5, 6]]
    )


def replaced(row: int, column: int, text: str) -> Callable[[list[str]], list[str]]:
    def change(rows: list[str]) -> list[str]:
        cells = rows[row - 1].split(",")
        cells[column] = text
        return [*rows[: row - 1], ",".join(cells), *rows[row:]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: ["a,b,c", *rows[1:]], r"datatraining.txt: the first row is a, b, c, expected date, Temperature"),
        (lambda _: [], r"the first row is missing"),
        (replaced(9, 4, "dark"), r"datatraining.txt, row 9: Light is 'dark', which is not a number"),
        (replaced(9, 7, "2"), r"row 9: Occupancy is 2, expected 0 or 1"),
        (replaced(7, 1, "noon"), r"row 7: 'noon' is not a time such as 2015-02-04 17:51:00"),
        (lambda rows: [*rows[:4], rows[4] + ",1"], r"row 5: 9 columns, expected 8: the number of the row, date"),
        (lambda rows: [*rows[:20], rows[10]], r"row 21: its time is not after that of the row before"),
        (lambda rows: rows[:40], r"needs moments with and without people"),
    ],
)
def test_a_wrong_file_is_named_with_its_row(folder: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    file = folder / "datatraining.txt"
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(DataError, match=message):
        read_room(folder, SENSORS)


def test_missing_files_are_named_with_the_address(folder: Path) -> None:
    (folder / "datatest2.txt").unlink()
    with pytest.raises(DataError, match=r"lacks datatest2\.txt.*archive\.ics\.uci\.edu/static.*--data"):
        read_room(folder, SENSORS)
    with pytest.raises(DataError, match="no such file"):
        read_room(folder / "absent", SENSORS)


def test_the_keys_say_what_the_room_lacks() -> None:
    with pytest.raises(SpecError, match=r"without a motion sensor; set task\.sensors = .*CO2.*model\.input = \[6\]"):
        PresenceTask(kind="presence", unseen="recorded").check("e.toml")
    with pytest.raises(SpecError, match="names one twice"):
        PresenceTask(kind="presence", sensors=("CO2", "CO2")).check("e.toml")
    assert PresenceTask(kind="presence", sensors=("light",)).shapes.input == (2,)
