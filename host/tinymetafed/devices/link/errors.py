"""What can go wrong between the host and a board; every text names the port and says what to do."""

from __future__ import annotations

from tinymetafed_codegen import protocol
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import Status

_MEANING = {
    Status.UNKNOWN_TYPE: "it does not know this message",
    Status.BAD_LENGTH: "the message is too short or too long",
    Status.BAD_STATE: "it is not in a state in which it can do that",
    Status.BAD_TOKEN: "another cycle is in progress, its token is {detail}",
    Status.BAD_OFFSET: "it expects offset, rank or index {detail}",
    Status.BAD_VALUE: "a field is outside its domain",
    Status.NOT_FINITE: "a value is NaN or infinite",
    Status.OVERFLOW: "a value does not fit its wire type",
    Status.TOO_LARGE: "it has no room for that much",
}


class LaunchError(Error):
    """A device that cannot be started."""


class LinkError(Error):
    """Anything between the host and a board that keeps them from working together."""


class PortError(LinkError):
    """A serial line that cannot be opened, or that went away. ``url`` is the line's URL."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__(f"{url}: {text}")
        self.url = url


class DeviceSilent(LinkError):
    """No byte came back."""


class DeviceGarbled(LinkError):
    """Bytes came back that are no answer."""


class DeviceRefused(LinkError):
    """The device said no: ``status`` and ``detail`` (see protocol.Status), and the request's ``message`` type."""

    def __init__(self, name: str, message: type[protocol.Request], status: Status, detail: int) -> None:
        super().__init__(f"{name}: refused {message.__name__} ({status.name}): {_MEANING[status].format(detail=detail)}")
        self.status = status
        self.detail = detail
        self.message = message


class WrongFirmware(LinkError):
    """The firmware on the board is not the one this host and experiment need."""


class SampleTooLarge(LinkError):
    """One sample, or one answer to it, does not fit the device's receive window."""
