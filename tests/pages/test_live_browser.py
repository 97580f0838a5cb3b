"""The live page in Debian's Chromium: it grows, survives a lost server, and fits phones and screens, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import CHROMIUM, Browser, chromium
from watched_runs import BAD_NAME, grow, make_run, status

import tinymetafed
from tinymetafed.runs.run_status import STATUS, write_status

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt install chromium)")

LIVE = "document.getElementById('connection').textContent === 'Live'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def says(text: str) -> str:
    return f"document.body.innerText.includes({text!r})"


def test_a_page_grows_without_being_loaded_again_and_ends_with_the_run(browser: Browser, tmp_path: Path) -> None:
    with tinymetafed.live(tmp_path / "new") as page:
        browser.show(page.url, 1280, 900, "light")
        browser.until(LIVE)
        browser.value("window.mark = 1")
        write_status(make_run(tmp_path / "new"), status())
        browser.until(says("4 of 9 rounds"))
        browser.until("document.querySelector('time[data-since]').textContent.endsWith(' s')")
        grow(tmp_path / "new")
        browser.until(says("5 of 9 rounds"))
        (tmp_path / "new" / STATUS).unlink()
        browser.until(says("--resume"))
        assert browser.value("window.mark") == 1
    browser.until(says("this is the last state"))
    assert browser.value(says("5 of 9 rounds")) and browser.console == []


def test_a_page_goes_on_when_its_server_is_back(browser: Browser, tmp_path: Path) -> None:
    write_status(make_run(tmp_path), status())
    page = tinymetafed.live(tmp_path)
    try:
        browser.show(page.url, 390, 844, "light")
        browser.until(LIVE)
        port = str(urlsplit(page.url).port)
        page.pages.end = lambda: None  # type: ignore[method-assign]  # as if it were killed: no stream is ended properly
    finally:
        page.close()
    browser.until(says("trying again"))
    grow(tmp_path)
    with tinymetafed.live(tmp_path, port):
        browser.until(says("5 of 9 rounds"))
        browser.until(LIVE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_window_in_both_schemes(browser: Browser, width: int, scheme: str, tmp_path: Path) -> None:
    write_status(make_run(tmp_path / "a"), status())
    make_run(tmp_path / BAD_NAME.replace("/", "_"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.db").write_text("no store")
    with tinymetafed.live(tmp_path) as page:
        before = len(browser.console)
        for path in ("", "run/a", "run/damaged"):
            browser.show(page.url + path, width, 844, scheme)
            browser.until(LIVE)
            assert browser.value("document.documentElement.scrollWidth") == width
            ink, paper = (browser.value(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
            assert (brightness(ink) < brightness(paper)) == (scheme == "light")
        assert browser.console[before:] == []  # nothing broke the page's policy


def brightness(colour: str) -> int:
    """Of rgb(R, G, B)."""
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
