"""Rows that a board replays as its sensor: those without a label stay, as a sensor's rows do."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.own_data.file_table import UNKNOWN
from tinymetafed.learn.tasks.own_data.replayed import sensor_rows, sound_rows
from tinymetafed_codegen.spec import FolderTask


def task(folder: Path, **keys: object) -> FolderTask:
    return FolderTask.model_validate({"kind": "folder", "path": str(folder / "own"), "label": "what", **keys})


@pytest.mark.parametrize("keys", [{}, {"window": 2}, {"missing": "drop"}, {"missing": "interpolate"}])
def test_rows_without_a_label_are_replayed(tmp_path: Path, keys: dict[str, object]) -> None:
    labels = ["", "1", "nan", "0", ""]
    (tmp_path / "a.csv").write_text("\n".join(["x,y,what", *(f"{i},{-i},{label}" for i, label in enumerate(labels)), ""]))
    (found,) = sensor_rows(tmp_path / "a.csv", task(tmp_path, **keys), 2)
    assert found.values[:, 0].tolist() == [0, 1, 2, 3, 4] and found.labels.tolist() == [UNKNOWN, 1, UNKNOWN, 0, UNKNOWN]
    assert found.after_gap.tolist() == [True, False, False, False, False]


def test_a_recording_without_any_label_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,what\n1,2,\n3,4,\n")
    np.savez(tmp_path / "b.npz", x=np.ones((3, 2), np.float32), y=np.full(3, np.nan))
    csv, npz = sensor_rows(tmp_path, task(tmp_path), 2)
    assert csv.labels.tolist() == [UNKNOWN] * 2 and npz.labels.tolist() == [UNKNOWN] * 3


def test_a_recording_that_was_cut_in_the_middle_of_a_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,what\n1,2,0\n3")
    with pytest.raises(DataError, match=r"a\.csv: row 3"):
        sensor_rows(tmp_path / "a.csv", task(tmp_path), 2)


def test_names_that_may_be_any_classes_of_the_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,what\n1,2,walk\n3,4,sit\n")
    with pytest.raises(DataError, match=r"its labels are sit, walk, and the model tells 3 classes apart: the names cannot"):
        sensor_rows(tmp_path / "a.csv", task(tmp_path), 2, 3)
    (two,) = sensor_rows(tmp_path / "a.csv", task(tmp_path), 2, 2)
    assert two.labels.tolist() == [1, 0]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "b.csv").write_text("x,y,what\n1,2,walk\n3,4,run\n5,6,sit\n")
    (known,) = sensor_rows(tmp_path / "a.csv", task(tmp_path), 2, 3)
    assert known.labels.tolist() == [2, 1]


def sounds(folder: Path, *words: str) -> Path:
    for word in words:
        (folder / "ann" / word).mkdir(parents=True)
        with wave.open(str(folder / "ann" / word / "1.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.arange(8000, dtype="<i2").tobytes())
    return folder


def test_sounds_of_other_words_than_those_of_the_model_are_refused(tmp_path: Path) -> None:
    spec = FolderTask.model_validate(
        {"kind": "folder", "path": str(sounds(tmp_path / "own", "no", "yes")), "sound": {"arithmetic": "board", "rate": 8000}}
    )
    with pytest.raises(DataError, match=r"other: has sounds of down, up, but the classes of .*own are no, yes; rename"):
        sound_rows(sounds(tmp_path / "other", "up", "down"), spec)
    (found,) = sound_rows(sounds(tmp_path / "mixed", "up", "yes"), spec)
    assert set(found.labels.tolist()) == {UNKNOWN, 1}


def test_a_sound_that_was_cut_in_its_head_is_named(tmp_path: Path) -> None:
    spec = FolderTask.model_validate(
        {"kind": "folder", "path": str(tmp_path / "own"), "sound": {"arithmetic": "board", "rate": 8000}}
    )
    file = sounds(tmp_path / "cut", "yes") / "ann" / "yes" / "1.wav"
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(DataError, match=r"1\.wav: cannot be read \(it ends too early\); save it again as WAV"):
        sound_rows(tmp_path / "cut", spec)
