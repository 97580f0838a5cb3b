"""Downloads of data sets: only once, checked by SHA-256, and with a remedy in the error."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.archives import Archive, downloaded

pytest.importorskip("pooch", reason="pooch is not installed: nothing can be downloaded")
CONTENT = b"an archive"


class Requests(SimpleHTTPRequestHandler):
    """Serves the files of a folder and counts requests."""

    count = 0

    def do_GET(self) -> None:
        Requests.count += 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinymetafed" / "data"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a server with the file set.zip."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "set.zip").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Requests, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Requests.count = 0
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("digest", [hashlib.sha256(CONTENT).hexdigest(), ""])
def test_an_archive_is_downloaded_once(cache: Path, address: str, digest: str) -> None:
    archive = Archive("the-set.zip", f"{address}/set.zip", digest)
    assert downloaded(archive) == cache / "the-set.zip" == downloaded(archive)
    assert (cache / "the-set.zip").read_bytes() == CONTENT and Requests.count == 1
    (cache / "the-set.zip").write_bytes(b"damaged")
    assert downloaded(archive).read_bytes() == (CONTENT if digest else b"damaged")


def test_another_file_than_expected_is_not_kept(cache: Path, address: str) -> None:
    with pytest.raises(DataError, match=r"^set\.zip: cannot be downloaded .*SHA256") as caught:
        downloaded(Archive("set.zip", f"{address}/set.zip", "0" * 64))
    assert f"{address}/set.zip" in str(caught.value) and list(cache.iterdir()) == []


def test_without_network_the_error_names_source_and_destination_of_the_file(cache: Path, address: str) -> None:
    nobody = Archive("set.zip", "http://127.0.0.1:9/set.zip")
    for archive in (nobody, Archive("set.zip", f"{address}/gone.zip")):
        with pytest.raises(DataError) as caught:
            downloaded(archive)
        assert f"Get it from {archive.url} and put it into {cache}, or give the folder it is in with --data" in str(
            caught.value
        )
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "set.zip").write_bytes(CONTENT)
    assert downloaded(nobody) == cache / "set.zip"
