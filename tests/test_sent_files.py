"""Data, weights and recordings that somebody else has made to do harm: refused by name, before they take memory or disk."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinymetafed as tmf
from tinymetafed.devices.link.record import RecordingError, events
from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.archives import files
from tinymetafed.runs.adapted import read_record
from tinymetafed_codegen import packed, weights_file
from tinymetafed_codegen.spec import SpecError


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mebibyte stands for the gibibyte, so that the tests write no large files."""
    monkeypatch.setattr(packed, "MOST_UNPACKED", 1 << 20)
    monkeypatch.setattr(packed, "MOST_FILES", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def npy(header: bytes, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + header + content


def claiming(shape: str, dtype: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode(), bytes(64))


class Evil:
    """A pickle that would make a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (Path("pickled"),))


def objects() -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Evil()], dtype=object), allow_pickle=True)
    return content.getvalue()


ARRAYS = {
    "more rows than the file has": claiming("(1099511627776, 1)"),
    "more than memory has": claiming("(4611686018427387904, 4)"),
    "a negative extent": claiming("(-4, 1)"),
    "a product that overflows": claiming("(4294967296, 4294967296)"),
    "objects": objects(),
    "a nested header": npy(b"(" * 9000 + b"\n"),
    "a header that is no dictionary": npy(b"[1, 2\n"),
    "an unknown version": npy(b"{}\n", version=b"\x09\x00"),
    "a header without end": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "no array": b"nothing",
    "zeros of 4 MiB": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 1), }\n", bytes(4 << 20)),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_npz_files(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/anna.npz", "data/berta.npz"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", ARRAYS[what])
            archive.writestr("y.npy", claiming("(4,)"))
    checked = tmf.check("data")
    assert any("anna.npz" in problem.file for problem in checked.problems)
    with pytest.raises(SpecError, match=r"^anna: not an npz file of numbers: "):
        weights_file.read("data/anna.npz", {"x": (4, 1)}, "anna")
    assert not Path("pickled").exists()


def test_pickles_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.npz").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SpecError, match="not an npz file"):
        weights_file.read("weights.npz", {}, "weights.npz")
    Path("data").mkdir()
    Path("data/anna.npz").write_bytes(pickle.dumps(Evil()))
    assert not tmf.check("data").ok
    assert not Path("pickled").exists()


def bomb(folder: Path, suffix: str, member: str = "data/anna.csv", count: int = 1) -> Path:
    """An archive of a few kilobytes that unpacks to 4 MiB, or has ``count`` files."""
    path = folder / f"bomb{suffix}"
    content = bytes(4 << 20) if count == 1 else b"1,0\n"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                archive.writestr(member if count == 1 else f"{number}/{member}", content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for number in range(count):
            entry = tarfile.TarInfo(member if count == 1 else f"{number}/{member}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("count", [1, 200])
def test_archives_that_unpack_to_far_too_much(tmp_path: Path, count: int) -> None:
    for suffix in (".zip", ".tar.gz"):
        with pytest.raises(DataError, match=r"bomb.*: it (unpacks to 4 MiB|has [12]\d\d files)"):
            list(files(bomb(tmp_path, suffix, count=count), "https://example.org"))
    archive = bomb(tmp_path, ".zip", count=count)
    checked = tmf.check(archive)
    assert not checked.ok and "unpack it yourself" in checked.problems[0].text
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize(
    "member", ["../out.csv", "/tmp/out.csv", "a/../../out.csv", "..\\out.csv", "C:\\out.csv", "link/out.csv"]
)
def test_archives_write_nothing_outside_the_cache(tmp_path: Path, member: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(outside))
        archive.writestr(member, "1,0\n")
        archive.writestr("anna.csv", "1,0\n2,1\n3,0\n")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} | {Path("/tmp/out.csv")}
    tmf.check(tmp_path / "sent.zip")
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} | {Path("/tmp/out.csv")}
    assert before == after and not Path("/tmp/out.csv").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_symlink()]


def test_images_of_other_formats_start_no_program(tmp_path: Path) -> None:
    """Pillow gives PostScript to another program; its content decides, not its suffix."""
    folder = tmp_path / "anna" / "cat"
    folder.mkdir(parents=True)
    (folder / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with Image.open(folder / "eps.png") as image:
        assert image.format == "EPS"  # so that this test means something
    checked = tmf.check(tmp_path)
    assert any("eps.png" in problem.file and "is no image" in problem.text for problem in checked.problems)


def test_recordings(tmp_path: Path) -> None:
    file = tmp_path / "run.record"
    head = json.dumps({"recording": "tinymetafed", "version": 1})
    for line in (
        "[" * 100_000,
        f'[1{"0" * 400}, "a", "<", "00"]',
        '["x", "a", "<", "00"]',
        '[1, "a", "<", 7]',
        "[]",
        "null",
        "{",
    ):
        file.write_text(f'{head}\n{line}\n[0.1, "a", "<", "00"]\n')
        with pytest.raises(RecordingError, match=r"run\.record:2: the recording is damaged"):
            list(events(file))
    file.write_text("[" * 100_000)
    with pytest.raises(RecordingError, match="is no recording"):
        list(events(file))


def test_records_of_adapted_weights(tmp_path: Path) -> None:
    file = tmp_path / "anna.npz"
    for comment in (b"[" * 60_000, b"{}", b'{"client": [], "number": "x", "samples": {}, "sha256": 1}', b"null", b"\xff"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment
        assert read_record(file) is None
