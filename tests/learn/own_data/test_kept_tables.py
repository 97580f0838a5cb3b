"""Runs of one process read each of the user's files once, and again when it has changed or something else is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinymetafed.learn.tasks.own_data.columns import Wanted
from tinymetafed.learn.tasks.own_data.csv_file import CsvContent, read_csv
from tinymetafed.learn.tasks.own_data.kept_tables import kept_or, tables_kept
from tinymetafed.learn.tasks.own_data.problems import Problems
from tinymetafed_codegen.spec import FolderTask


class Counted:
    """Reads files and counts them."""

    def __init__(self) -> None:
        self.read: list[Path] = []

    def __call__(self, file: Path, wanted: Wanted, problems: Problems) -> CsvContent | None:
        self.read.append(file)
        return read_csv(file, wanted, problems)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "anna.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
    return tmp_path / "anna.csv"


def wanted(**keys: object) -> Wanted:
    return Wanted(FolderTask.model_validate({"kind": "folder", "path": "data"} | keys), None, 0)


def test_a_file_is_read_once_whoever_is_held_out(file: Path) -> None:
    reader = Counted()
    with tables_kept(), tables_kept():
        first = kept_or(reader, file, wanted(held_out=["anna"]), Problems())
        again = kept_or(reader, file, wanted(held_out=["bert"], validation=["anna"]), Problems())
        assert again is first and reader.read == [file]
        other = kept_or(reader, file, wanted(ignore=["b"]), Problems())
        assert other is not None and other.table.values.shape == (2, 1) and reader.read == [file] * 2
    kept_or(reader, file, wanted(), Problems())
    kept_or(reader, file, wanted(), Problems())
    assert reader.read == [file] * 4


def test_a_file_that_has_changed_is_read_again(file: Path) -> None:
    reader = Counted()
    with tables_kept():
        kept_or(reader, file, wanted(), Problems())
        file.write_text("a,b,label\n1,2,0\n3,4,1\n5,6,1\n")
        content = kept_or(reader, file, wanted(), Problems())
    assert content is not None and len(content.table) == 3 and len(reader.read) == 2


def test_problems_are_found_by_every_run(file: Path, tmp_path: Path) -> None:
    file.write_text("a,b,label\n1,two,0\n3,4,1\n")
    with tables_kept():
        for _ in range(2):
            problems = Problems()
            kept_or(read_csv, file, wanted(), problems)
            assert problems.of(file)
            problems = Problems()
            assert kept_or(read_csv, tmp_path / "none.csv", wanted(), problems) is None and problems.count == 1
