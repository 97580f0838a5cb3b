"""Serves the live pages over HTTP, in a thread of its own: pages, and a stream of events for each browser that watches.

A browser that is slow or gone holds nobody: it is sent the parts that have changed since it was sent any, when it takes them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..runs import report
from .addresses import Address, listening, url_of
from .live_page import FOLDER
from .run_watch import RunWatch
from .views import PAUSE_SECONDS, Views, order

SILENT_SECONDS = 10.0  # after which a browser is told that the server is still there
MAX_CONNECTIONS = 64
END_SECONDS = 1  # for browsers to take the last state
_VERSION = re.compile(r"([0-9a-f]{8})\.(\d{1,12})")


class LivePage:
    """A server of live pages at ``url``; it serves until ``close``, or the end of its ``with``."""

    def __init__(self, folder: Path, address: Address) -> None:
        """Begins to serve the runs of a folder, which may be made later. Raises UsageError if the port is taken."""
        self.folder = folder
        self.address = address
        self._socket = listening(address)
        self.url = url_of(self._socket)
        self.pages = _Pages(folder)
        names = frozenset(("localhost", "127.0.0.1", "[::1]", address.host)) if address.is_loopback else None
        app = Starlette(
            routes=[
                Route("/", self.pages.page),
                Route("/run/{key:path}", self.pages.page),
                Route("/events", self.pages.events),
                Route("/live.js", _script),
                Route("/favicon.ico", _nothing),
            ],
            middleware=[Middleware(_Guard, names=names)],
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=END_SECONDS,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="live page", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Sends every browser the last state, and ends."""
        self.pages.end()
        self._server.should_exit = True
        self._thread.join(END_SECONDS + 2)
        self._socket.close()

    def wait(self) -> None:
        """Returns when the server has ended; Ctrl-C ends the wait."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


class _Pages:
    """The pages and their events."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._views = Views(RunWatch(folder))
        self._epoch = secrets.token_hex(4)  # tells versions of this server from those of one before it
        self._ended = threading.Event()
        self._wake: set[asyncio.Event] = set()  # of each browser that watches
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def watching(self) -> int:
        """How many browsers watch."""
        return len(self._wake)

    def end(self) -> None:
        """Ends all streams after the last state; from any thread."""
        self._ended.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for wake in self._wake:
            wake.set()

    async def page(self, request: Request) -> Response:
        """A page as it is now."""
        key = request.path_params.get("key", "")
        view = await self._views.view(key)
        if view is None:
            return PlainTextResponse(f"{key}: no such run in this folder\n".encode(errors="backslashreplace"), 404)
        several = self._views.several
        name = key or self._folder.resolve().name
        text = _frame().render(
            title=name,
            overview="/" if several and key else "",
            events=f"/events?run={quote(key)}&since={self._epoch}.{view.version}",
            parts=order(view.since(0)),
        )
        return Response(text.encode(errors="backslashreplace"), media_type="text/html")

    async def events(self, request: Request) -> Response:
        """The stream of a page's changes since the version that the browser has."""
        key = request.query_params.get("run", "")
        if await self._views.view(key) is None:
            return PlainTextResponse("no such run in this folder\n", 404)
        has = _VERSION.fullmatch(request.headers.get("last-event-id") or request.query_params.get("since", ""))
        since = int(has[2]) if has and has[1] == self._epoch else 0
        return StreamingResponse(self._changes(key, since), media_type="text/event-stream")

    async def _changes(self, key: str, since: int) -> AsyncIterator[bytes]:
        self._loop = asyncio.get_running_loop()
        wake, told = asyncio.Event(), 0.0
        self._wake.add(wake)
        try:
            yield b"retry: 1000\n\n"
            while True:
                ends = self._ended.is_set()
                view = await self._views.view(key, at_once=ends)
                if view is not None and view.version != since:
                    parts, since = view.since(since if since < view.version else 0), view.version
                    data = json.dumps({"now": time.time(), "parts": parts})
                    yield f"id: {self._epoch}.{since}\nevent: parts\ndata: {data}\n\n".encode()
                    told = time.monotonic()
                elif time.monotonic() - told > SILENT_SECONDS:
                    yield b": still here\n\n"
                    told = time.monotonic()
                if ends:
                    yield b"event: end\ndata: \n\n"
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), PAUSE_SECONDS)
        finally:
            self._wake.discard(wake)


class _Guard:
    """Refuses other names for this machine, and gives every answer its headers: nothing from elsewhere, nothing kept.

    A page of another site could otherwise read this one, by giving its own name this machine's address.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        """``names``: what browsers may call this machine; None for anything."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _headers().items():
                    headers[name] = value
            await send(message)

        app = self._app
        if scope["type"] == "http" and self._names is not None:
            host = re.sub(r":\d+$", "", Headers(scope=scope).get("host", "")).lower()
            if host not in self._names:
                app = PlainTextResponse("this page is served to this machine alone; call it localhost\n", 400)
        await app(scope, receive, with_headers)


@cache
def _headers() -> dict[str, str]:
    (style,) = re.findall("(?s)<style>(.*?)</style>", _frame().render(title="", overview="", events="", parts=[]))
    own = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {
        "content-security-policy": f"default-src 'none'; script-src 'self'; style-src 'sha256-{own}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


def _frame() -> jinja2.Template:
    return report.environment(FOLDER).get_template("live.html.j2")


def _script(request: Request) -> Response:
    return Response((FOLDER / "live.js").read_bytes(), media_type="text/javascript")


def _nothing(request: Request) -> Response:
    return Response(status_code=204)
