"""The address of a SuperLink and how it is authenticated, and the check that Flower is installed; without importing Flower."""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tinymetafed_codegen.errors import UsageError

from ...devices.link import tls
from ..backhaul import BackhaulError

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[\w.-]+):([0-9]{1,5})")


class SuperLinkError(BackhaulError):
    """A SuperLink that cannot be used; the text names it and says what to do."""


@dataclass(frozen=True)
class SuperLinkAddress:
    """A SuperLink's address.

    Attributes:
        host: Name or IP address.
        port: TCP port of all its APIs.
        insecure: Whether the line has no TLS.
        root_certificates: PEM file of the authorities that are trusted; None for those of the system.
        node_key: PEM or OpenSSH file with the private key by which the SuperLink knows this gateway; None to be a new one.
        server_secret: File with the secret that the SuperLink asks of whoever takes its server tasks; None for none.
    """

    host: str
    port: int
    insecure: bool = False
    root_certificates: Path | None = None
    node_key: Path | None = None
    server_secret: Path | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        insecure: bool = False,
        root_certificates: Path | None = None,
        node_key: Path | None = None,
        server_secret: Path | None = None,
    ) -> SuperLinkAddress:
        """Parses HOST:PORT. Raises UsageError for another text, or options that contradict each other."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[2]) < 1 << 16 or not _is_host(found[1]):
            raise UsageError(f"SuperLink '{text}': expected HOST:PORT, for instance 127.0.0.1:8000 or [::1]:8000")
        if insecure and root_certificates is not None:
            raise UsageError(f"SuperLink {text}: --root-certificates needs TLS; leave --insecure out")
        if insecure and node_key is not None:
            raise UsageError(f"SuperLink {text}: --node-key needs TLS; leave --insecure out")
        return cls(found[1].strip("[]"), int(found[2]), insecure, root_certificates, node_key, server_secret)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def check(self) -> None:
        """Looks who answers. Raises OSError if nobody does, SuperLinkError if that one cannot be trusted."""
        if self.insecure:
            with socket.create_connection((self.host, self.port), tls.CONNECT_SECONDS):
                return
        how, plain = "--root-certificates ", "say --insecure"
        address = tls.TlsAddress(self.host, self.port, self.root_certificates, ca_option=how, plain_option=plain)
        try:
            tls.connect(address).close()
        except tls.TlsError as error:
            raise SuperLinkError(f"SuperLink {self}: {error}") from None

    def read(self, file: Path, what: str) -> bytes:
        """The content of one of its files. Raises SuperLinkError."""
        try:
            return file.read_bytes()
        except OSError as error:
            raise SuperLinkError(f"{file}: cannot be read ({error.strerror}); expected {what}") from None


def _is_host(name: str) -> bool:
    """Whether a host can have this name: its parts have 1 to 63 letters."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def require_flower() -> None:
    """Raises SuperLinkError unless Flower is installed. Must come before the modules beside this one are imported."""
    if find_spec("flwr") is None:
        raise SuperLinkError("gateways need Flower, which is not installed: pip install 'tinymetafed[flower]'")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # Flower reads it when it is imported
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # our events say it
