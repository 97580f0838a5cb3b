"""Data, weights and recordings that somebody else has made to do harm: refused by name, before they take memory or disk."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tracemalloc
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


def packed_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar.gz of headers as they are given, each with its content."""
    with gzip.open(path, "wb", compresslevel=9) as out:
        for member, content in members:
            out.write(member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
        out.write(bytes(1024))
    return path


def header(kind: bytes, content: bytes, name: str = "header") -> tuple[tarfile.TarInfo, bytes]:
    """A header of one kind with a content of its own."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    return info, content


def record(key: bytes, value: bytes) -> bytes:
    """A record of a pax header."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + next(n for n in range(1, 9) if len(str(len(rest) + n)) == n)
    return str(length).encode() + rest


LARGE = bytes(4 << 20)
MEMBER = header(tarfile.REGTYPE, b"1,0\n", "anna.csv")
SPARSE = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")]


@pytest.mark.parametrize(
    "members",
    [
        [header(tarfile.XHDTYPE, record(b"comment", LARGE)), MEMBER],
        [MEMBER, header(tarfile.XHDTYPE, record(b"comment", LARGE)), MEMBER],
        [header(tarfile.XGLTYPE, record(b"comment", LARGE)), MEMBER],
        [header(tarfile.GNUTYPE_LONGNAME, LARGE), MEMBER],
        [MEMBER, header(tarfile.GNUTYPE_LONGLINK, LARGE), MEMBER],
        [*[header(tarfile.XHDTYPE, record(b"comment", bytes(1 << 15)))] * 16, MEMBER],
        [part for n in range(16) for part in (header(tarfile.XGLTYPE, record(b"k%d" % n, bytes(1 << 15))), MEMBER)],
        [
            header(tarfile.XHDTYPE, b"".join(record(*each) for each in SPARSE)),
            header(tarfile.REGTYPE, b"9999999\n" + 2048 * b"0\n" * 1024),
        ],
    ],
)
def test_headers_of_a_tar_archive_are_bounded(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    archive = packed_tar(tmp_path / "sent.tar.gz", *members)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"sent\.tar\.gz: (it unpacks to|it has a header of more|its headers for all)"):
            list(files(archive, "https://example.org"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(record(b"size", b"-99999"), id="a negative size"),
        pytest.param(b"9" * 5000 + b" a=b\n", id="a length of 5000 digits"),
        pytest.param(record(b"hdrcharset", b"\xff"), id="no UTF-8"),
    ],
)
def test_a_tar_archive_with_a_header_that_makes_no_sense_is_damaged(tmp_path: Path, records: bytes) -> None:
    archive = packed_tar(tmp_path / "sent.tar.gz", MEMBER, header(tarfile.XHDTYPE, records), MEMBER)
    with pytest.raises(DataError, match=r"sent\.tar\.gz: damaged"):
        list(files(archive, "https://example.org"))


def test_links_in_a_tar_archive_are_left_out_and_long_names_are_read(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, "anna.csv"
    long = "a" * 200 + "/anna.csv"
    pax = header(tarfile.XHDTYPE, record(b"path", long.encode()))
    for suffix, opened in ((".tar", open), (".tar.gz", gzip.open), (".tar.bz2", bz2.open), (".tar.xz", lzma.open)):
        sent = gzip.decompress(packed_tar(tmp_path / "sent", MEMBER, (link, b""), pax, MEMBER).read_bytes())
        with opened(tmp_path / f"sent{suffix}", "wb") as out:
            out.write(sent)
        assert list(files(tmp_path / f"sent{suffix}", "")) == [("anna.csv", b"1,0\n"), (long, b"1,0\n")]


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
    assert any("eps.png" in problem.file and "is not an image" in problem.text for problem in checked.problems)


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
    with pytest.raises(RecordingError, match="is not a recording"):
        list(events(file))


def test_records_of_adapted_weights(tmp_path: Path) -> None:
    file = tmp_path / "anna.npz"
    for comment in (b"[" * 60_000, b"{}", b'{"client": [], "number": "x", "samples": {}, "sha256": 1}', b"null", b"\xff"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment
        assert read_record(file) is None
