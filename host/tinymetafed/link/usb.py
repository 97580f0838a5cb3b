"""USB boards and bridges by their ids, and how each wants its serial line to be opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from serial.tools import list_ports

from tinymetafed_codegen import boards
from tinymetafed_codegen.boards import Line


@dataclass(frozen=True)
class UsbSerial:
    """What is behind a vendor and product id; ``line`` is what its makers' boards need."""

    title: str
    line: Line = field(default_factory=Line)


# Silent until DTR is on.
_ARDUINO = Line(dtr=True, rts=True)
# DTR and RTS drive EN and IO0 of the usual kits: the chip resets whenever they differ, and then prints a boot banner.
# Opening raises both at once; lowering them again, one after the other, would make them differ for a moment.
_ESP32 = Line(dtr=True, rts=True, settle_seconds=0.3)

KNOWN_USB = {  # vendor and product id, as the boards' makers and usb.ids give them
    (0x2341, 0x805A): UsbSerial("Arduino Nano 33 BLE", _ARDUINO),
    (0x2341, 0x005A): UsbSerial("Arduino Nano 33 BLE in its boot loader; press reset once to run its firmware", _ARDUINO),
    (0x10C4, 0xEA60): UsbSerial("CP2102 bridge, usual on ESP32 boards", _ESP32),
    (0x1A86, 0x7523): UsbSerial("CH340 bridge, usual on ESP32 boards", _ESP32),
    (0x303A, 0x1001): UsbSerial("ESP32 with USB of its own", _ESP32),
}


def line_of(path: str, board: str | None = None) -> Line:
    """How to open a port: as ``board`` says, else as the USB device behind it does, else as most boards want it.

    Raises BoardError for an unknown board.
    """
    if board is not None:
        return boards.load(board).line
    if "://" not in path:
        for port in list_ports.comports():
            if port.device == path and port.vid is not None and port.pid is not None:
                known = KNOWN_USB.get((port.vid, port.pid))
                return known.line if known is not None else Line()
    return Line()


def other_ports(path: str) -> list[str]:
    """USB serial ports other than ``path``, where a board may turn up that was on it; none when that is no such port."""
    if "://" in path:
        return []
    return sorted(port.device for port in list_ports.comports() if port.vid is not None and port.device != path)
