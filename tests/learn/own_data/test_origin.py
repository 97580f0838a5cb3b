"""Data from archives and by DOI: unpacked or downloaded once, found by a pattern, refused with what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from files import BODY, VALUES, reading_of, task_of, write
from small_runs import DATA

from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.own_data import origin
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find

WATCHES = DATA / "sp_sw_har_watch.zip"
DOI = "doi:10.5281/zenodo.1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(origin, "user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with two people's files, and others that are no data."""
    folder = write(tmp_path / "in", data__anna__1_watch=BODY, data__bob__1_watch=BODY, data__bob__1_phone="x", people="a,b")
    with zipfile.ZipFile(tmp_path / "record.zip", "w", zipfile.ZIP_LZMA) as made:
        for file in sorted(folder.rglob("*.csv")):
            made.write(file, file.relative_to(folder))
        made.writestr("../outside.csv", "1,2,idle")
    return tmp_path / "record.zip"


class Record:
    """A published record with one archive, in place of pooch's."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.fetched = archive, 0

    def load_registry_from_doi(self) -> None:
        self.registry_files = [self.archive.name]

    def fetch(self, name: str) -> str:
        self.fetched += 1
        return str(self.archive)


def test_an_archive_is_a_folder_that_is_unpacked_once(archive: Path, cache: Path) -> None:
    for _ in range(2):
        task = task_of(archive, files="**/*_watch.csv")
        assert [client.name for client in (*task.trained, *task.unseen)] == ["bob", "anna"]
        assert np.array_equal(task.trained[0].inputs, VALUES.astype(np.float32))
    assert len(list((cache / "unpacked").iterdir())) == 1 and not list(cache.rglob("outside.csv"))


def test_a_record_is_downloaded_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(archive)
    monkeypatch.setattr(pooch, "create", lambda path, base_url: record if base_url == f"{DOI}/" else None)
    for _ in range(2):
        assert task_of(Path(DOI), files="**/*_watch.csv").clients == 1
    assert record.fetched == 1


def test_a_record_that_cannot_be_had_is_named_with_its_address(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(archive)
    monkeypatch.setattr(pooch, "create", lambda path, base_url: record)

    def offline() -> None:
        raise OSError("no network")

    monkeypatch.setattr(record, "load_registry_from_doi", offline)
    with pytest.raises(DataError, match=r"\(no network\)\. Get its files from https://doi\.org/10\.5281/zenodo\.1"):
        task_of(Path(DOI))


def test_what_cannot_be_unpacked_or_found_is_named(archive: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"no CSV or NPZ file here matches task\.files = '\*\.csvx'"):
        task_of(archive, files="*.csvx")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match=r"broken\.zip: damaged, or not a ZIP archive"):
        task_of(broken)
    assert [folder.name[:6] for folder in (cache / "unpacked").iterdir()] == ["record"]


def test_a_doi_stays_as_it_is_in_experiments(tmp_path: Path) -> None:
    loaded = spec.load(find("examples") / "activity.toml")
    assert isinstance(loaded.task, spec.FolderTask) and loaded.task.path == "doi:10.5281/zenodo.8398688"
    assert spec.portable(spec.dump(loaded), tmp_path)["task"]["path"] == loaded.task.path  # type: ignore[call-overload,index]


@pytest.mark.skipif(not WATCHES.is_file(), reason=f"no {WATCHES.name} in {DATA}")
def test_real_watches_become_windows_of_23_people() -> None:
    task = spec.load(find("examples") / "activity.toml").task
    assert isinstance(task, spec.FolderTask)
    shapes = spec.TaskShapes((50, 6), 5, "softmax_cross_entropy")
    reading = reading_of(WATCHES, shapes, **task.model_dump(exclude={"kind", "path", "sound", "held_out"}), held_out=None)
    assert not reading.problems and [client.name for client in reading.clients] == [f"s{i:02}" for i in range(1, 24)]
    assert sum(client.rows for client in reading.clients) == 262_553
    assert list(reading.classes or ()) and set(reading.classes or ()) == {
        "SEATED",
        "SITTING_DOWN",
        "STANDING_UP",
        "TURNING",
        "WALKING",
    }
    assert sum(len(client.inputs) for client in reading.clients) == 2_407
    assert "times are in ms, because they count since 1970; set task.time_unit if that is wrong" in reading.notes
