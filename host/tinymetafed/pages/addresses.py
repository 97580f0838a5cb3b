"""Addresses that a page is served at: this machine alone unless others are asked for."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import sys
from dataclasses import dataclass

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.whole_numbers import whole_number

HOST, PORT = "127.0.0.1", 8765
_FORM = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s/]*)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class Address:
    """Where a page is served. ``port``: None for the usual one, or any free one where that is taken."""

    host: str = HOST
    port: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether programs of this machine alone can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def exposure(self) -> str:
        """What it means that others can reach it, in words; "" if they cannot."""
        if self.is_loopback:
            return ""
        return (
            f"{self.host} is an address for other machines: whoever reaches this one can watch the runs, with the names of "
            "boards, files and folders, the experiments and scores, without a password and unencrypted. Nobody can change "
            "anything through the page. On a network that you do not trust, leave the address out and use a tunnel: "
            "ssh -L 8765:localhost:8765 THIS-MACHINE"
        )


def parse_address(text: str) -> Address:
    """Reads ADDRESS, ADDRESS:PORT or PORT; "" is this machine alone. Raises UsageError."""
    if whole_number(text) is not None:
        text = f":{text}"
    found = _FORM.fullmatch(text)
    port = None if found is None or found["port"] is None else int(found["port"])
    if found is None or (port is not None and not 0 < port < 1 << 16):
        raise UsageError(f"{text}: no address to serve at; give ADDRESS, ADDRESS:PORT or PORT, for instance 0.0.0.0:8765")
    return Address(found["host"].strip("[]") or HOST, port)


def listening(address: Address) -> socket.socket:
    """A socket that listens there. Raises UsageError if the port is taken, or the address is none of this machine's."""
    try:
        return _bound(address.host, PORT if address.port is None else address.port)
    except UnicodeError:
        raise UsageError(
            f"the live page cannot be served at {address.host}: no machine has this name, as the parts between dots have 1 to "
            "63 characters; give an address of this machine"
        ) from None
    except OSError as error:
        if address.port is None and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return listening(Address(address.host, 0))
        what = f"port {address.port} of {address.host}" if address.port else address.host
        remedy = "choose another port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "give an address of this machine"
        raise UsageError(f"the live page cannot be served at {what}: {error.strerror or error}; {remedy}") from None


def url_of(bound: socket.socket) -> str:
    """The URL of a page that is served on a socket."""
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # elsewhere it would let two programs have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(64)
    except OSError:
        bound.close()
        raise
    return bound
