"""Facts of a folder of data: ranges, constant features, duplicates, gaps, and the warnings that they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BODY, HEADER, ROWS, VALUES, reading_of, spec_of, write

from tinymetafed.learn.tasks.own_data.examination import DataFacts, examine_data


def facts_of(folder: Path, **keys: Any) -> DataFacts:
    return examine_data(reading_of(folder, None, **keys), spec_of(**keys))


def test_rows_classes_and_ranges(tmp_path: Path) -> None:
    facts = facts_of(write(tmp_path, anna=HEADER + BODY, bob=HEADER + "".join(f"{100 + i},{i},run\n" for i in range(7))))
    anna, bob = facts.clients
    assert (anna.held_out, anna.rows, anna.samples, dict(anna.classes)) == (True, 45, 45, {"idle": 15, "run": 15, "walk": 15})
    assert (bob.held_out, bob.files, dict(bob.classes)) == (False, ("bob.csv",), {"run": 7})
    assert dict(facts.classes) == {"idle": 15, "run": 22, "walk": 15} and facts.sample_shape == (2,)
    ax = facts.features[0]
    column = np.concatenate([VALUES[:, 0], 100 + np.arange(7)])
    assert (ax.name, ax.constant) == ("ax", False)
    assert [ax.minimum, ax.maximum, ax.mean, ax.deviation] == pytest.approx(
        [column.min(), column.max(), column.mean(), column.std()], rel=1e-5
    )


def test_a_constant_feature_is_a_warning(tmp_path: Path) -> None:
    text = "ax,battery,activity\n" + "".join(f"{row[0]},3.7,{row[2]}\n" for row in ROWS)
    facts = facts_of(write(tmp_path, anna=text, bob=text.replace("1.", "2.")))
    assert [feature.constant for feature in facts.features] == [False, True]
    assert any(line.startswith("feature 'battery' is 3.7 in every row") for line in facts.warnings)


def test_a_recording_that_is_there_twice_is_a_warning(tmp_path: Path) -> None:
    other = "".join(f"{100 + i},{i},run\n" for i in range(45))
    assert facts_of(write(tmp_path, anna=BODY, bob=other)).duplicates == ()
    found = facts_of(write(tmp_path, cleo=BODY, dora=other + other)).duplicates
    assert {(each.client, each.other, each.rows, each.of_rows) for each in found} == {
        ("anna", "cleo", 45, 45),
        ("bob", "dora", 45, 45),
        ("dora", "dora", 45, 90),
    }


def test_classes_out_of_balance_are_a_warning(tmp_path: Path) -> None:
    text = BODY + "".join(f"{i},{-i},idle\n" for i in range(200)) + "7,7,rare\n"
    facts = facts_of(write(tmp_path, anna=text, bob=BODY))
    assert any("class 'idle' has 230 samples, 'rare' has 1" in line for line in facts.warnings)


def test_gaps_name_file_row_and_seconds(tmp_path: Path) -> None:
    times = [*range(10), *range(60, 70), *range(40, 45)]
    text = "t [s],ax,ay,activity\n" + "".join(f"{t},{t},{-t},idle\n" for t in times)
    facts = facts_of(write(tmp_path, anna=text, bob=text), time="t [s]")
    assert facts.gap_count == 4
    assert {(gap.file, gap.row, gap.seconds) for gap in facts.gaps} == {
        (f"{name}.csv", *gap) for name in ("anna", "bob") for gap in ((12, 51.0), (22, -29.0))
    }
    assert any("time runs backwards 2 times, first in anna.csv, row 22" in line for line in facts.warnings)


def test_a_rate_above_that_of_the_recording_is_a_warning(tmp_path: Path) -> None:
    def text(step: float) -> str:
        return "t,ax,ay,activity\n" + "".join(f"{i * step:.3f},{','.join(row)}\n" for i, row in enumerate(ROWS))

    write(tmp_path, anna=text(0.1), bob=text(0.1), cleo=text(0.02))
    keys: dict[str, Any] = {"window": 5, "time": "t"}
    (warning,) = [line for line in facts_of(tmp_path, rate=50, **keys).warnings if "task.rate" in line]
    assert warning.startswith(
        "task.rate = 50, but anna.csv has about 10 rows per second, and 1 more file too few, so that up to "
    )
    assert warning.endswith("80% of the rows are interpolated and tell nothing new; set task.rate = 10 or lower")
    for rate in (10, 12):  # lower, or as uneven times may look
        assert not any("task.rate" in line for line in facts_of(tmp_path, rate=rate, **keys).warnings)


@pytest.mark.parametrize(
    ("one", "other", "warns"),
    [
        ("Walk", "walk", True),
        ("walk  fast", "Walk fast", True),
        ("Café", "cafe\u0301", True),
        ("walk ", "walk", False),
        ("walk", "walks", False),
    ],
)
def test_labels_that_differ_only_in_spelling_are_a_warning(tmp_path: Path, one: str, other: str, warns: bool) -> None:
    text = HEADER + BODY.replace("walk", one) + BODY.replace("walk", other)
    facts = facts_of(write(tmp_path, anna=text, bob=text))
    assert any("differ only in case, blanks or encoding, and are 2 classes" in line for line in facts.warnings) == warns
    assert len(facts.classes) == (3 if one.strip() == other else 4)


def test_clients_that_differ_only_in_spelling_are_a_warning(tmp_path: Path) -> None:
    text = "who,ax,ay,activity\n" + "".join(f"{('Anna', 'anna', 'bob')[i % 3]},{','.join(row)}\n" for i, row in enumerate(ROWS))
    facts = facts_of(write(tmp_path, all=text), client="who", held_out=["bob"])
    assert "'Anna' and 'anna' differ only in case, blanks or encoding, and are 2 clients" in facts.warnings[0]


def test_a_row_number_among_the_features_is_a_warning(tmp_path: Path) -> None:
    text = ",ax,ay,activity\n" + "".join(f"{i},{','.join(row)}\n" for i, row in enumerate(ROWS))
    (warning,) = [line for line in facts_of(write(tmp_path, anna=text, bob=text)).warnings if "rises" in line]
    assert warning.startswith("feature '1' rises from row to row in every file, as a row number or a time does")
    assert not any("rises" in line for line in facts_of(tmp_path, ignore=[1]).warnings)


def test_two_columns_of_one_name_and_a_single_class_are_warnings(tmp_path: Path) -> None:
    text = "ax,ax,activity\n" + "".join(f"{a},{b},idle\n" for a, b, _ in ROWS)
    warnings = facts_of(write(tmp_path, anna=text, bob=text)).warnings
    assert any(line.startswith("2 features are named 'ax'") for line in warnings)
    assert "all rows are of class 'idle', so there is nothing to tell apart: add another one" in warnings
