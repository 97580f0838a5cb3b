"""Lines over TLS: URLs such as tls://HOST:PORT?ca=FILE, connections with verified certificates, and why one was refused."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .clock import SYSTEM_CLOCK, Clock
from .network_url import NetworkUrl
from .readiness import ready

SCHEME = "tls"
CONNECT_SECONDS = 5.0  # for the connection, and again for TLS's own messages; as long as pyserial waits for socket://
_EXPECTED = "expected tls://HOST:PORT, after that ?ca=FILE and, for a client certificate, cert=FILE&key=FILE, with & between"
# OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_...)
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
_WRONG_HOST = (62, 64)


class TlsError(Exception):
    """A line over TLS that cannot be used; the text says what is wrong and what to do, without the port."""


@dataclass(frozen=True)
class TlsAddress:
    """A parsed tls:// URL.

    Attributes:
        host: Name or IP address; the other side's certificate must be for it.
        port: TCP port.
        ca: PEM file of the authorities that are trusted; None for those of the system.
        certificate: PEM file of the host's own certificate, None to send none.
        key: PEM file with the private key of that certificate; None if it is in the same file.
        ca_option, plain_option: How the user names ``ca``, and asks for a line without TLS; for errors.
    """

    options: ClassVar[tuple[str, ...]] = ("ca", "cert", "key")
    host: str
    port: int
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca_option: str = "?ca="
    plain_option: str = "give socket:// or mqtt://"

    @classmethod
    def parse(cls, url: str) -> TlsAddress:
        """Parses a URL. Raises TlsError, which says what was expected."""
        try:
            parts = NetworkUrl.parse(url, cls.options)
        except ValueError:
            raise TlsError(_EXPECTED) from None
        rest = parts.path or parts.has_fragment or parts.user is not None
        if parts.scheme != SCHEME or not parts.host or not parts.port or rest:
            raise TlsError(_EXPECTED)
        files = parts.files
        if "key" in files and "cert" not in files:
            raise TlsError("key= is the private key of a client certificate; name its file too, cert=FILE&key=FILE")
        return cls(parts.host, parts.port, files.get("ca"), files.get("cert"), files.get("key"))


def connect(address: TlsAddress, clock: Clock = SYSTEM_CLOCK) -> ssl.SSLSocket:
    """Connects and verifies the other side's certificate: its issuer, its dates and its host name.

    Args:
        address: Where to, and whom to believe.
        clock: Clock to measure time with.

    Returns:
        The connection; it does not block.

    Raises:
        TlsError: A file cannot be used, or the other side is not who the URL says.
        OSError: Nobody can be reached there.
    """
    context = context_of(address)
    with socket.create_connection((address.host, address.port), CONNECT_SECONDS) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each write is a whole frame, to be sent at once
        plain.setblocking(False)
        secured = context.wrap_socket(plain, server_hostname=address.host, do_handshake_on_connect=False)
    try:
        _shake_hands(secured, address, clock)
    except BaseException:
        secured.close()
        raise
    return secured


def _shake_hands(secured: ssl.SSLSocket, address: TlsAddress, clock: Clock) -> None:
    """Begins TLS within CONNECT_SECONDS, however the other side spaces its bytes. Raises TlsError."""
    until = clock.monotonic() + CONNECT_SECONDS
    while True:
        try:
            secured.do_handshake()
            return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            left = until - clock.monotonic()
            if left <= 0 or not ready(secured.fileno(), left, writing=isinstance(wanted, ssl.SSLWantWriteError)):
                raise TlsError(
                    f"has accepted the connection but not begun TLS within {CONNECT_SECONDS:g} s; is it a plain socket://, or "
                    "another program's port?"
                ) from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise TlsError("the other side hung up before TLS began; does it speak TLS?") from None
        except ssl.SSLError as error:
            raise TlsError(explain(error, address)) from error
        except OSError as error:
            raise TlsError(f"the other side hung up before TLS began ({error.strerror}); does it speak TLS?") from error


def explain(error: ssl.SSLError, address: TlsAddress) -> str:
    """What is wrong with a connection, and what to do, in words without the port."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, address)
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return f"answers without TLS; serve TLS there, or {address.plain_option} for a line that is not secured"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return f"refuses a client without a certificate that it knows ({reason}); give ?cert=FILE&key=FILE"
    if reason.startswith(("TLSV1_ALERT", "SSLV3_ALERT", "TLSV13_ALERT")) and address.certificate is not None:
        return f"refuses the client certificate {address.certificate} ({reason}); give one that its authority has signed"
    return f"TLS failed ({reason}); check the program that serves TLS there"


def _explain_certificate(error: ssl.SSLCertVerificationError, address: TlsAddress) -> str:
    code, why = error.verify_code, error.verify_message
    if code == _EXPIRED:
        return "its certificate has expired; renew it there, or set this machine's clock"
    if code == _NOT_YET:
        return "its certificate is not valid yet; set this machine's clock, or that of the machine that made the certificate"
    if code in _WRONG_HOST:
        return f"its certificate is for another host than {address.host} ({why}); give the name that the certificate has"
    if code in _UNKNOWN_ISSUER:
        trusted = "this system" if address.ca is None else str(address.ca)
        option = f"{address.ca_option}FILE"
        return f"its certificate is from an authority that {trusted} does not know ({why}); give {option} with its authority"
    return f"its certificate cannot be verified ({why}); renew it there"


def context_of(address: TlsAddress) -> ssl.SSLContext:
    """What connections to an address verify, and show of this host. Raises TlsError if a file cannot be used."""
    context = ssl.create_default_context()
    if address.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name; believes nobody so far
        _load(
            address.ca_option.lstrip("?"), address.ca, "authorities as PEM", lambda: context.load_verify_locations(address.ca)
        )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = address.certificate
    if certificate is not None:
        what = "a certificate and its private key as PEM, the key without a password"
        _load("cert=", certificate, what, lambda: context.load_cert_chain(certificate, address.key, password=lambda: ""))
    return context


def _load(option: str, file: Path, what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise TlsError(f"{option}{file}: cannot be used ({error.reason or error}); expected {what}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TlsError(f"{option}{file}: cannot be read ({why}); expected {what}") from None
