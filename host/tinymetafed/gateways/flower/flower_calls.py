"""Calls of a SuperLink: repeated while it is away, with a named error for everything else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from ...devices.link.clock import SYSTEM_CLOCK, Clock
from .superlink_address import SuperLinkAddress, SuperLinkError

_Result = TypeVar("_Result")

PAUSE_SECONDS = (0.5, 15.0)  # first and longest between two tries; it doubles each time
_LEAST_SECONDS = 0.01  # between two looks for a message
_EARLY = 0.7  # share of the usual time after which a message is looked for more often
_SHARE = 0.1  # of that time: a message waits no longer
_AWAY = (429, 502, 503, 504)
# What a call may raise where nobody looks at its result. ValueError: something else than a SuperLink has answered.
NO_ANSWER = (httpx.HTTPError, ValueError, SystemExit)


class Pace:
    """How often to look for a message: rarely until the time that the last one took is nearly over, then more often."""

    def __init__(self, most: float) -> None:
        """Pauses are ``most`` seconds long at most, and not longer than a part of the time that a message takes."""
        self._most, self._usual = most, 0.0

    def pause(self, waited: float) -> float:
        """Seconds until the next look, after ``waited`` seconds without a message."""
        early = _EARLY * self._usual - waited
        return min(max(_LEAST_SECONDS, early, _SHARE * max(self._usual, waited)), self._most)

    def came(self, waited: float) -> None:
        """Notes that a message has come after ``waited`` seconds."""
        self._usual = waited


class Refused(SuperLinkError):
    """The SuperLink has answered with an HTTP error: ``status``."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Calls:
    """Calls of one SuperLink.

    ``patience``: seconds for which a SuperLink may be away; None for ever. ``stop``: set to give up.
    """

    address: SuperLinkAddress
    on_event: Callable[[str], None]
    patience: float | None
    clock: Clock = SYSTEM_CLOCK
    stop: threading.Event = field(default_factory=threading.Event)
    _answered: bool = field(default=False, init=False)

    def call(self, action: Callable[[], _Result]) -> _Result:
        """Does something with the SuperLink; from the start again while it is away.

        Raises:
            Refused: It answers, and refuses.
            SuperLinkError: It is away for longer than the patience, is none, cannot be trusted, or has another Flower version.
        """
        began, pause, why = self.clock.monotonic(), PAUSE_SECONDS[0], ""
        while True:
            try:
                result = action()
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _AWAY:
                    raise self._refused(error.response) from None
                reason = f"HTTP {error.response.status_code}"
            except httpx.TransportError as error:
                reason = self._reason(error)
            except (ValueError, httpx.DecodingError) as error:  # an answer that is none; UnicodeError: a name that is none
                if not self._answered:
                    raise SuperLinkError(
                        f"SuperLink {self.address}: what answers there is no SuperLink ({error}); look at the address"
                    ) from None
                reason = str(error)
            except SystemExit:  # Flower's way to refuse another version of itself
                raise SuperLinkError(
                    f"SuperLink {self.address}: it has another version of Flower; install the same version on all machines"
                ) from None
            else:
                self._answered = True
                if why:
                    self.on_event(f"SuperLink {self.address} answers again after {self.clock.monotonic() - began:.0f} s")
                return result
            away = self.clock.monotonic() - began
            if self.stop.is_set() or (self.patience is not None and away >= self.patience):
                raise SuperLinkError(
                    f"SuperLink {self.address}: has not answered for {away:.0f} s ({reason}); start it, or check the address"
                )
            if reason != why:
                self.on_event(f"SuperLink {self.address} does not answer ({reason}); trying again until it does")
                why = reason
            self.stop.wait(pause)
            pause = min(2 * pause, PAUSE_SECONDS[1])

    def _reason(self, error: httpx.TransportError) -> str:
        """Why nobody answers. Raises SuperLinkError if somebody answers who cannot be trusted."""
        try:
            self.address.check()
        except OSError as other:
            return other.strerror or str(other)
        if isinstance(error, httpx.RemoteProtocolError) and self.address.insecure:
            return "it hangs up; a SuperLink with TLS needs --root-certificates in place of --insecure"
        return str(error) or type(error).__name__

    def _refused(self, response: httpx.Response) -> Refused:
        try:
            given = json.loads(response.text)
            detail = str(given.get("detail") or given) if isinstance(given, dict) else str(given)
        except (ValueError, RecursionError):
            detail = response.reason_phrase
        detail = " ".join(detail.split())[:300]
        return Refused(f"SuperLink {self.address}: refuses with HTTP {response.status_code}: {detail}", response.status_code)
