"""Device URLs: what the user names boards, ports, processes and their options by."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from tinymetafed_codegen.board.boards import INSTALLED, Catalogue
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.whole_numbers import whole_number

from .link.link_errors import LaunchError
from .link.mqtt_address import MqttAddress, MqttError, is_mqtt
from .link.tls import TlsAddress, TlsError
from .link.transport import is_tls

MOST_PROCESSES = 10_000  # of one URL; a mistyped number must not fill the machine
DEFAULT_BOARDS = {"native": "native", "qemu": "mps2", "renode": "nrf52840"}
_OPTION = re.compile(r"(store|replay|line)=(.+?)(?=&(?:store|replay|line)=|$)")
_USUAL_LINE = "pty" if sys.platform != "win32" else "tcp"  # Windows has no pseudo-terminals
_LOCAL = ("alt", "cp2110", "hwgrep", "loop", "spy")  # schemes of pyserial's URLs that reach no network
_AT_BOARD = re.compile(r"(/.+|COM\d+|\w+://.+)@([\w-]+)")  # a port, then what is on it


class DeviceUrlError(LaunchError, UsageError):
    """An invalid device URL; wrong usage."""


@dataclass(frozen=True)
class DeviceSpec:
    """A parsed device URL: ``count`` processes of ``kind`` that run ``board``; or a serial port, without ``board``.

    ``declared`` is the board on a serial port, if the URL names it. ``store`` is the folder for the files that stand for the
    flash of processes; None: files that are removed at the end. ``replay`` is the recording, or a folder of them, that stands
    for their sensors. With ``tcp`` they serve a TCP port of this machine, otherwise a pseudo-terminal. ``found``: whether a
    broker has named it; it may be gone without the broker's knowledge.
    """

    url: str
    kind: str
    board: str | None = None
    count: int = 1
    declared: str | None = None
    store: Path | None = None
    replay: Path | None = None
    tcp: bool = False
    found: bool = False

    @property
    def is_search(self) -> bool:
        """Whether it means all boards that a broker knows below a topic."""
        return is_mqtt(self.url) and MqttAddress.parse(self.url).is_search


def some(devices: str | Sequence[str]) -> list[str]:
    """The URLs that were given, of which there must be one or more; a text alone is one. Raises DeviceUrlError."""
    if not (urls := several(devices)):
        raise DeviceUrlError("no device is given; give one or more, for instance native:2")
    return urls


def several(devices: str | Sequence[str]) -> list[str]:
    """The URLs that were given, if any; a text alone is one, although Python also takes it for a sequence of letters."""
    return [devices] if isinstance(devices, str) else list(devices)


def parse(urls: Sequence[str], boards: Catalogue = INSTALLED) -> list[DeviceSpec]:
    """Parses device URLs.

    Args:
        urls: Each is ``native:N``, ``qemu:N`` or ``renode:N``, with or without ``@BOARD`` and then ``?store=DIR``,
            ``?replay=FILE|DIR``, ``?line=tcp`` or several with ``&`` between them; or a serial PORT or PORT@BOARD, where PORT
            may be socket://HOST:PORT, tls://HOST:PORT, mqtt://HOST/TOPIC or mqtts://HOST/TOPIC. The options of the last three
            come behind @BOARD.
        boards: The known boards.

    Returns:
        One specification per URL.

    Raises:
        DeviceUrlError: A URL is invalid.
        BoardError: The file of a named board cannot be used.
    """
    found: list[DeviceSpec] = []
    for url in urls:
        kind, colon, rest = url.partition(":")
        if kind in DEFAULT_BOARDS:
            found.append(_parse_process(url, kind, rest, boards))
        elif not url or (colon and re.fullmatch(r"\w+", kind) and re.fullmatch(r"-?\d+([@?].*)?", rest)):
            near = get_close_matches(kind, DEFAULT_BOARDS, n=1)
            expected = "expected native:N, qemu:N, qemu:N@BOARD, renode:N or a serial port"
            hint = f"did you mean '{near[0]}:{rest}'?" if near else expected
            raise DeviceUrlError(f"device '{url}': {hint}")
        elif url in boards.names():
            known = boards.load(url)
            hint = f"PORT@{url}, with the port that it is on" if known.real else f"{known.kind}:1@{url}"
            raise DeviceUrlError(f"device '{url}': this is a board's name; give {hint}")
        else:
            if option := re.search(r"\?(store|replay|line)=", url):
                raise DeviceUrlError(
                    f"device '{url}': {option[1]}= is for boards that are started now, native:N and qemu:N; a board on a port "
                    "has a flash and a sensor of its own, so leave it out"
                )
            place, asked, options = url.partition("?") if is_tls(url) or is_mqtt(url) else (url, "", "")
            at = _AT_BOARD.fullmatch(place)
            declared = None if at is None else _known_board(url, at[2], boards)
            spec = DeviceSpec(f"{place if at is None else at[1]}{asked}{options}", "serial", declared=declared)
            _require_address(spec.url)
            if any(other.url == spec.url for other in found):
                raise DeviceUrlError(f"device '{url}': given twice; name each port once")
            found.append(spec)
    return found


def require_secure(urls: Sequence[str], security: str, insecure: bool) -> None:
    """Decides which device URLs may be used; every function that is given devices asks it first.

    A line that leaves this machine must be encrypted and its other end verified (tls://), or the boards must be authenticated.
    Otherwise anybody on the network can answer for a board. At an MQTT broker, anybody whom the broker lets write can, so there
    the boards must be authenticated.

    Args:
        urls: Device URLs.
        security: ``run.security`` of the experiment; "none" where there is no experiment.
        insecure: Whether the user accepts such a line, with --insecure.

    Raises:
        DeviceUrlError: A line is not secured; the text names it and the remedies.
    """
    if insecure or security == "authenticated":
        return
    for url in urls:
        if not _is_open(url):
            continue
        if is_mqtt(url):
            raise DeviceUrlError(
                f"device '{url}': everybody who may use the broker could answer in place of a board; set run.security = "
                "'authenticated', or give --insecure if you trust all of them"
            )
        raise DeviceUrlError(
            f"device '{url}': leads to another machine, which does not prove who it is; use tls://HOST:PORT, or "
            "set run.security = 'authenticated', or give --insecure if you trust the whole network"
        )


def _is_open(url: str) -> bool:
    """Whether a device URL leads to another machine or a broker, and TLS does not prove that one certain board answers."""
    if is_mqtt(url):
        return True
    scheme = re.match(r"([\w.+-]+)://", url)
    if scheme is None or is_tls(url) or scheme[1].lower() in _LOCAL:
        return False
    at = _AT_BOARD.fullmatch(url)
    try:
        host = urlsplit(url if at is None else at[1]).hostname or ""
    except ValueError:  # whatever opens it may read it in another way
        return True
    if host == "localhost":
        return False
    with suppress(ValueError):  # a host name, which may be that of any machine
        address = ip_address(host)
        return not (getattr(address, "ipv4_mapped", None) or address).is_loopback
    return True


def _require_address(url: str) -> None:
    try:
        if is_tls(url):
            TlsAddress.parse(url)
        elif is_mqtt(url):
            MqttAddress.parse(url)
    except (TlsError, MqttError) as error:
        raise DeviceUrlError(f"device '{url}': {error}") from None


def _known_board(url: str, board: str, boards: Catalogue) -> str:
    if board in boards.names():
        return boards.load(board).name  # reports an unusable board file before anything starts
    near = get_close_matches(board, boards.names(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(boards.names())}"
    raise DeviceUrlError(f"device '{url}': no board '{board}'; {hint}")


def _parse_process(url: str, kind: str, rest: str, boards: Catalogue) -> DeviceSpec:
    rest, has_options, options = rest.partition("?")
    given = {match[1]: match[2] for match in _OPTION.finditer(options)}
    if has_options and "&".join(match[0] for match in _OPTION.finditer(options)) != options:
        raise DeviceUrlError(
            f"device '{url}': expected store=DIR after ?, a folder for what boards keep over a reset, replay=DIR, the "
            "recordings that they take for their sensors, line=tcp, or several with & between them"
        )
    if twice := [name for name in given if len(re.findall(rf"(?:^|&){name}=", options)) > 1]:
        raise DeviceUrlError(f"device '{url}': {twice[0]}= is given twice; give it once")
    match = re.fullmatch(r"([0-9]+)(?:@([\w-]+))?", rest)
    count = None if match is None else whole_number(match[1])
    if match is None or not count:
        raise DeviceUrlError(f"device '{url}': expected a number of devices of at least 1, for instance {kind}:4")
    if count > MOST_PROCESSES:
        raise DeviceUrlError(f"device '{url}': one URL stands for at most {MOST_PROCESSES:,} devices")
    board = _known_board(url, match[2] or DEFAULT_BOARDS[kind], boards)
    if boards.load(board).real:
        raise DeviceUrlError(f"device '{url}': board '{board}' is a real one; connect it and give its port: PORT@{board}")
    right = boards.load(board).kind
    if kind != right:
        hint = f"{right}:{match[1]}" if board == DEFAULT_BOARDS[right] else f"{right}:{match[1]}@{board}"
        raise DeviceUrlError(f"device '{url}': board '{board}' does not run as {kind}; use {hint}")
    line = given.get("line", _USUAL_LINE if kind == "native" else "pty")
    if line not in ("tcp", "pty") or (line == "tcp" and not boards.load(board).serial_tcp):
        raise DeviceUrlError(f"device '{url}': expected line=tcp or line=pty, and tcp for native boards only; leave line= out")
    if "replay" in given and not boards.load(board).replays:
        raise DeviceUrlError(
            f"device '{url}': board '{board}' cannot read recordings in {kind}, only in QEMU or as a native process; leave "
            "replay= out, or use qemu or native"
        )
    folders = {name: Path(value).resolve() for name, value in given.items() if name != "line"}
    store, replay = folders.get("store"), folders.get("replay")
    return DeviceSpec(url, kind, board, count, store=store, replay=replay, tcp=line == "tcp")
