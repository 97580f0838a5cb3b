"""Errors of the connection to a device; every text names the port and says what to do."""

from __future__ import annotations

from tinymetafed_codegen import protocol
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import Status

_MEANING = {
    Status.UNKNOWN_TYPE: "it does not know this message",
    Status.BAD_LENGTH: "the message is too short or too long",
    Status.BAD_STATE: "its state does not allow this message",
    Status.BAD_TOKEN: "another cycle is in progress, its token is {detail}",
    Status.BAD_OFFSET: "it expects offset, rank or index {detail}",
    Status.BAD_VALUE: "a field has an invalid value",
    Status.NOT_FINITE: "a value is NaN or infinite",
    Status.OVERFLOW: "a value does not fit its wire type",
    Status.TOO_LARGE: "it does not have enough memory for it",
}

# Refusals that mean that the board was reset: it does not know what the host sent before.
AFTER_RESET = (Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET)


class LaunchError(Error):
    """A device that cannot be started."""


class LinkError(Error):
    """The host and a device cannot work together; base class of the other errors."""


class PortError(LinkError):
    """A serial line cannot be opened, or was lost: ``text`` says how, ``url`` is the line's URL."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__(f"{url}: {text}")
        self.url = url
        self.text = text


class PortHeld(PortError):
    """A serial line that another program has open."""


class DeviceSilent(LinkError):
    """The device sent no byte."""


class DeviceGarbled(LinkError):
    """The device sent bytes that are no valid answer."""


class DeviceSlow(LinkError):
    """The device sent valid answers, but only to earlier requests: later than the host waits for them."""


class DeviceRefused(LinkError):
    """The device refused a request: ``status`` and ``detail`` (see protocol.Status), and the request's ``message`` type."""

    def __init__(self, name: str, message: type[protocol.Request], status: Status, detail: int) -> None:
        super().__init__(f"{name}: refused {message.__name__} ({status.name}): {_MEANING[status].format(detail=detail)}")
        self.status = status
        self.detail = detail
        self.message = message


class WrongFirmware(LinkError):
    """The firmware on the board does not fit this host or this experiment."""


class NotEnrolled(LinkError):
    """The board, or this host, has no key with which they could authenticate each other."""


class WrongKey(LinkError):
    """The board does not prove that it has the key by which this host knows it."""


class SessionLost(LinkError):
    """An answer says that the device knows no authenticated session.

    After a reset this is true. The answer itself is not authenticated, so others can send it too.
    """


class SampleTooLarge(LinkError):
    """One sample, or the answer to it, does not fit the device's receive window."""


def without_parts(refusal: DeviceRefused, name: str, window: int, what: str) -> LinkError:
    """The error where a board refuses a part: one that does not know parts takes no such sample.

    Args:
        refusal: The refusal.
        name: The board's name in errors.
        window: Bytes of its receive window.
        what: What was too large, the beginning of a sentence.
    """
    if refusal.status != Status.UNKNOWN_TYPE:
        return refusal
    remedy = "send uint8 levels with a scale, use smaller inputs, or a board with more memory"
    return SampleTooLarge(f"{name}: {what}, more than this board's receive window of {window} bytes; {remedy}")
