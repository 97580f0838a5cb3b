"""The server of live pages, over loopback: streams that go on, browsers that are slow or gone, and who may look."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from clocks import HUNG_SECONDS, wait_until
from small_runs import SINE
from watched_runs import BAD_NAME, grow, make_run, status

import tinymetafed
from tinymetafed.pages import addresses
from tinymetafed.pages.addresses import Address, parse_address
from tinymetafed.pages.page_server import LivePage
from tinymetafed.runs import run_status
from tinymetafed.runs.run_status import write_status


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePage]:
    """A page of one training run, which a slow machine does not take for one that has ended."""
    monkeypatch.setattr(run_status, "FRESH_SECONDS", HUNG_SECONDS)
    write_status(make_run(tmp_path / "run"), status())
    with tinymetafed.live(tmp_path / "run") as served:
        yield served


def get(page: LivePage, path: str = "/", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    with closing(http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=HUNG_SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


@dataclass
class Stream:
    """The events that one browser is sent."""

    answer: http.client.HTTPResponse

    def next(self) -> tuple[str, str, dict[str, str]]:
        """The next event: its name, its id and the parts that it brings."""
        fields: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line == "\n" and "event" in fields:
                data = fields["data"]
                return fields["event"], fields.get("id", ""), json.loads(data)["parts"] if data else {}
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value

    def until(self, text: str) -> str:
        """Reads until some part has this text; the id of that event."""
        while True:
            _, at, parts = self.next()
            if any(text in html for html in parts.values()):
                return at


@contextmanager
def streaming(page: LivePage, query: str = "", **headers: str) -> Iterator[Stream]:
    with closing(http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=HUNG_SECONDS)) as connection:
        connection.request("GET", f"/events?{query}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)


# What is served


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_page_loads_nothing_from_elsewhere_and_obeys_its_own_policy(page: LivePage) -> None:
    code, headers, text = get(page)
    assert code == 200 and "4 of 9 rounds" in text and "native#2" in text
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    tags = Tags(text).tags
    assert [attributes for tag, attributes in tags if tag == "script"] == [{"src": "/live.js", "defer": None}]
    assert sum(tag == "style" for tag, _ in tags) == 1  # whose hash is in the policy
    assert not [tag for tag, attributes in tags if any(name == "style" or name.startswith("on") for name in attributes)]
    assert not [
        tag for tag, attributes in tags if re.match("https?:|//", attributes.get("src") or attributes.get("href") or "")
    ]
    assert get(page, "/live.js")[1]["content-type"].startswith("text/javascript")
    assert get(page, "/favicon.ico")[0] == 204


def test_names_of_boards_and_folders_are_text(tmp_path: Path) -> None:
    write_status(make_run(tmp_path / BAD_NAME.replace("/", "_")), status())
    with tinymetafed.live(tmp_path) as served:
        key = quote(BAD_NAME.replace("/", "_"))
        for path in ("/", f"/run/{key}"):
            code, _, text = get(served, path)
            assert code == 200 and "<script>a" not in text and "&lt;script&gt;a" in text
        with streaming(served, f"run={key}") as stream:
            assert not any("<script>a" in html for html in stream.next()[2].values())


def test_tables_have_headers_and_the_state_is_announced(page: LivePage) -> None:
    tags = Tags(get(page)[2]).tags
    assert {"role": "status", "id": "connection"} in [attributes for tag, attributes in tags if tag == "span"]
    assert all(attributes.get("aria-label") for tag, attributes in tags if tag == "progress")
    headings = [attributes for tag, attributes in tags if tag == "th"]
    assert sum("scope" in attributes for attributes in headings) >= 11  # eight columns and three boards


@pytest.mark.parametrize("path", ["/run/none", "/run/../run", "/events?run=none", "/etc/passwd", "/run/%2e%2e/%2e%2e/etc"])
def test_what_is_not_a_run_of_the_folder_is_not_found(page: LivePage, path: str) -> None:
    assert get(page, path)[0] == 404


# Streams


def test_a_browser_that_comes_back_is_sent_what_has_changed_since(page: LivePage) -> None:
    with streaming(page) as stream:
        name, first, parts = stream.next()
        assert name == "parts" and {"run_summary", "live_status", "run_model"} <= parts.keys()
    grow(page.folder)
    with streaming(page, "since=00000000.1", **{"Last-Event-ID": first}) as stream:
        _, second, parts = stream.next()
        assert second != first and "5 of 9 rounds" in parts["run_summary"] and "run_model" not in parts
    write_status(page.folder, status(note="mse 0.25"))
    with streaming(page, f"since={second}") as stream:
        _, third, parts = stream.next()
        assert parts.keys() == {"live_status"} and "mse 0.25" in parts["live_status"]
    with streaming(page, **{"Last-Event-ID": third}) as stream:
        write_status(page.folder, status(note="mse 0.125"))
        assert stream.next()[2].keys() == {"live_status"}


@pytest.mark.parametrize("unknown", ["00000000.7", "garbage", "", "ffffffff.99999999999999999999"])
def test_a_browser_of_an_earlier_server_is_sent_everything(page: LivePage, unknown: str) -> None:
    with streaming(page, **{"Last-Event-ID": unknown}) as stream:
        assert {"run_summary", "live_status", "run_model"} <= stream.next()[2].keys()


def test_browsers_that_never_read_or_are_gone_hold_nobody(page: LivePage) -> None:
    page._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little is on its way
    write_status(page.folder, status(note="x" * 500_000))
    host, port = urlsplit(page.url).hostname, urlsplit(page.url).port
    deaf = []
    for _ in range(5):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.connect((host, port))
        one.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deaf.append(one)
    wait_until(lambda: page.pages.watching == 5)
    deaf.pop().close()  # gone
    with streaming(page) as stream:
        for number in range(20):
            write_status(page.folder, status(note=f"note {number}", events=()))
        stream.until("note 19")
        grow(page.folder)
        stream.until("5 of 9 rounds")
        wait_until(lambda: page.pages.watching == 5)  # the four that never read, and this one
    page.close()
    assert not page._thread.is_alive()
    for one in deaf:
        one.close()


def test_the_end_brings_the_last_state(page: LivePage) -> None:
    with streaming(page) as stream:
        stream.next()
        grow(page.folder)
        page.pages.end()
        assert "5 of 9 rounds" in stream.next()[2]["run_summary"]
        assert stream.next()[0] == "end" and stream.answer.read() == b""


def test_a_run_goes_on_whoever_watches_and_ends_as_its_report(tmp_path: Path) -> None:
    experiment = tinymetafed.load(SINE, set={"run.rounds": 20, "evaluation.tasks": 5})
    alone = tinymetafed.simulate(experiment, out=tmp_path / "alone", progress=False)
    with tinymetafed.live(tmp_path / "watched") as served, socket.socket() as deaf, streaming(served) as stream:
        deaf.connect((urlsplit(served.url).hostname, urlsplit(served.url).port))
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert "No run has begun" in stream.next()[2]["live_runs"]
        run = tinymetafed.simulate(experiment, out=tmp_path / "watched", progress=False)
        assert run.weights_sha256 == alone.weights_sha256
        parts: dict[str, str] = {}
        while parts.get("live_status") or run.weights_sha256 not in "".join(parts.values()):  # until the end is shown
            parts |= stream.next()[2]
        finished = get(served)[2]
    report = run.report().read_text(encoding="utf-8")
    assert [text for text in words(report) if text not in words(finished)] == []


def words(page: str) -> list[str]:
    """The text of a page's body, tag by tag."""
    return [text.strip() for text in re.split("<[^>]*>", page[page.index("<body") :]) if text.strip()]


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("8000", Address("127.0.0.1", 8000)),
        (":8000", Address("127.0.0.1", 8000)),
        ("0.0.0.0", Address("0.0.0.0")),
        ("localhost:80", Address("localhost", 80)),
        ("[::1]:8000", Address("::1", 8000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["0", "70000", "host:port", "a b", "http://x", "::1:80", "[::1", "x/y"])
def test_what_is_no_address_is_a_mistake(text: str) -> None:
    with pytest.raises(tinymetafed.UsageError, match="no address to serve at"):
        parse_address(text)


@pytest.mark.parametrize("name", ["a" * 70, "a..b"])
def test_what_can_be_no_name_of_a_machine_is_a_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(tinymetafed.UsageError, match=rf"cannot be served at {name}: .*give an address of this machine"):
        tinymetafed.live(tmp_path, f"{name}:8765")


def test_a_taken_port_is_replaced_unless_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(addresses, "PORT", port)
        with tinymetafed.live(tmp_path) as served:
            assert urlsplit(served.url).port != port and get(served)[0] == 200
        with pytest.raises(tinymetafed.UsageError, match=f"port {port} of 127.0.0.1: .*choose another port"):
            tinymetafed.live(tmp_path, str(port))
    with pytest.raises(tinymetafed.UsageError, match=r"192\.0\.2\.1.*address of this machine"):
        tinymetafed.live(tmp_path, "192.0.2.1:8765")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::2]", ""])
def test_other_names_for_this_machine_are_refused(page: LivePage, host: str) -> None:
    assert page.address.exposure == ""
    for path in ("/", "/events", "/live.js"):
        code, headers, text = get(page, path, Host=host)
        assert code == 400 and "rounds" not in text and "content-security-policy" in headers
    for known in ("localhost", "localhost:1234", "127.0.0.1", "[::1]:8765"):
        assert get(page, Host=known)[0] == 200


def test_a_page_for_other_machines_says_what_that_means(tmp_path: Path) -> None:
    with tinymetafed.live(tmp_path, "0.0.0.0") as served:
        assert "without a password and unencrypted" in served.address.exposure
        port = urlsplit(served.url).port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG_SECONDS)) as connection:
            connection.request("GET", "/", headers={"Host": "workshop.lan"})
            assert connection.getresponse().status == 200
