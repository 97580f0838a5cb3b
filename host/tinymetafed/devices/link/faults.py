"""Injected faults between the host and a device, from a seed; also the speed and latency of a real line."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from types import TracebackType
from typing import Self

from tinymetafed_codegen.errors import UsageError

from .clock import SYSTEM_CLOCK, Clock
from .link_errors import LaunchError, LinkError, PortError
from .transport import Transport

STALL_SECONDS = 1.0
OVERTAKEN_SECONDS = 0.25  # a frame that is to be overtaken waits for the next one for so long
MAX_INSERTED = 8  # bytes
PIECE_BYTES = 62  # a USB bridge delivers received bytes in pieces of this size
_POLL_SECONDS = 0.05  # how soon a thread notices that its line was closed


class FaultError(LaunchError, UsageError):
    """Invalid faults, or faults that a device cannot have."""


@dataclass(frozen=True)
class Rates:
    """Probability of each fault per frame in one direction; ``delay`` is the longest delay in seconds (uniform from 0)."""

    flip: float = 0.0  # one bit
    drop: float = 0.0
    duplicate: float = 0.0
    insert: float = 0.0  # up to MAX_INSERTED random bytes
    truncate: float = 0.0
    stall: float = 0.0  # no byte arrives for STALL_SECONDS
    disconnect: float = 0.0  # the line closes
    reboot: float = 0.0  # the device restarts
    reorder: float = 0.0  # the next frame overtakes it
    delay: float = 0.0


@dataclass(frozen=True)
class FaultPlan:
    """The faults in each direction and the speed of the line; the same seed gives the same faults, frame by frame."""

    down: Rates = field(default_factory=Rates)  # host to device
    up: Rates = field(default_factory=Rates)
    baud: int | None = None  # bit/s that the line is slowed down to; None: not slowed down
    latency: float = 0.0  # seconds by which all bytes from the device are delayed, as by USB
    seed: int = 1

    @property
    def reboots(self) -> bool:
        """Whether devices are restarted, which is possible for processes only."""
        return self.down.reboot > 0 or self.up.reboot > 0


_TIMES = ("delay", "latency")
_RATES = tuple(each.name for each in fields(Rates) if each.name not in _TIMES)
_WHOLE = ("baud", "seed")
_BOTH_WAYS = ("latency", *_WHOLE)


def parse(text: str) -> FaultPlan:
    """Parses faults.

    Args:
        text: For instance ``flip=0.01,delay=20ms,up:drop=1%,baud=115200,latency=16ms,seed=7``. A fault without ``up:`` or
            ``down:`` holds for both directions.

    Returns:
        The faults.

    Raises:
        FaultError: The text is invalid.
    """
    rates: dict[str, dict[str, float]] = {"down": {}, "up": {}}
    line: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        way, colon, name = key.rpartition(":")
        names = [*_RATES, *_TIMES, *_WHOLE]
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise FaultError(f"fault '{part}': " + (f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"))
        if not equals:
            raise FaultError(f"fault '{part}': expected {name}={_example(name)}")
        if colon and (way not in rates or name in _BOTH_WAYS):
            expected = f"{name} is for both directions" if way in rates else f"expected up:{name} or down:{name}"
            raise FaultError(f"fault '{part}': {expected}")
        number = _number(part, name, value)
        if name in _BOTH_WAYS:
            line[name] = number
        else:
            for chosen in (way,) if colon else rates:
                rates[chosen][name] = number
    return FaultPlan(
        down=Rates(**rates["down"]),
        up=Rates(**rates["up"]),
        baud=int(line["baud"]) if "baud" in line else None,
        latency=line.get("latency", FaultPlan.latency),
        seed=int(line.get("seed", FaultPlan.seed)),
    )


def _example(name: str) -> str:
    return {"delay": "20ms", "latency": "16ms", "baud": "115200", "seed": "7"}.get(name, "0.01")


def _number(part: str, name: str, value: str) -> float | int:
    if name in _WHOLE:
        if not re.fullmatch(r"[0-9]{1,9}", value) or (name == "baud" and int(value) < 300):
            least = ", 300 or more" if name == "baud" else ""
            raise FaultError(f"fault '{part}': expected a whole number{least}, for instance {name}={_example(name)}")
        return int(value)
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0} if name in _TIMES else {"": 1.0, "%": 0.01}
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)([a-z%]*)", value)
    number = float(match[1]) * units[match[2]] if match is not None and match[2] in units else -1.0
    most = 60.0 if name in _TIMES else 1.0
    if not 0 <= number <= most:
        what = "a time in us, ms or s, at most 60s" if name in _TIMES else "a share of all frames from 0 to 1, or in %"
        raise FaultError(f"fault '{part}': expected {what}, for instance {name}={_example(name)}")
    return number


class Injector:
    """Draws one device's faults, also across reconnections; counts them in ``injected``."""

    def __init__(self, plan: FaultPlan, place: int, clock: Clock = SYSTEM_CLOCK) -> None:
        """``place`` is the number of the device, because each one has faults of its own."""
        self.plan = plan
        self.clock = clock
        self.injected: Counter[str] = Counter()
        self.armed = False  # while False there is no disconnect and no reboot, so that the device can reconnect
        self._draws = {way: random.Random(f"{plan.seed}/{place}/{way}") for way in ("down", "up")}
        # A generator of its own: a rate of this fault changes none of the other faults of a seed.
        self._orders = {way: random.Random(f"{plan.seed}/{place}/{way}/order") for way in ("down", "up")}

    def wrap(self, transport: Transport, reboot: Callable[[], None] | None = None) -> FaultyTransport:
        """``transport`` with the faults; ``reboot`` restarts the device behind it."""
        return FaultyTransport(transport, self, reboot)

    def hits(self, rates: Rates, way: str) -> list[str]:
        """The faults of the next frame in one direction."""
        draw = self._draws[way]
        # Every fault is drawn for every frame, so that one rate does not change the draws of the others.
        hit = [name for name in _RATES if name != "reorder" and draw.random() < getattr(rates, name)]
        hit += ["reorder"] if self._orders[way].random() < rates.reorder else []
        hit = [name for name in hit if self.armed or name not in ("disconnect", "reboot")]
        self.injected.update(hit)
        return hit

    def damage(self, frame: bytes, hit: list[str], way: str) -> bytes:
        """The frame with the faults ``hit`` applied."""
        draw = self._draws[way]
        data = bytearray(frame)
        if "flip" in hit:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        if "insert" in hit:
            at = draw.randrange(len(data) + 1)
            data[at:at] = draw.randbytes(draw.randint(1, MAX_INSERTED))
        if "truncate" in hit:
            del data[draw.randrange(len(data)) :]
        if "duplicate" in hit:
            data *= 2
        return b"" if "drop" in hit else bytes(data)

    def delay(self, rates: Rates, way: str) -> float:
        """Seconds by which the next frame is delayed."""
        return self._draws[way].uniform(0, rates.delay) if rates.delay else 0.0


class Lane:
    """A queue of bytes in one direction with their times of arrival; ``fail`` ends it with an error."""

    def __init__(self, bits_per_second: int | None, clock: Clock) -> None:
        self._clock = clock
        self._seconds_per_byte = 10 / bits_per_second if bits_per_second else 0.0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held: list[tuple[float, bytes]] = []  # what the next bytes overtake, and when it is not held any longer
        self._free = 0.0  # time at which the line has sent everything
        self._due = 0.0  # time of arrival of the last bytes, which later bytes must not overtake
        self._ended: tuple[str, str] | None = None  # URL and text of the error
        self._changed = threading.Condition()

    def put(self, data: bytes, later: float = 0.0, *, overtaken: bool = False) -> None:
        """Sends ``data``; it arrives ``later`` seconds after the line has transmitted it.

        What is ``overtaken`` arrives right behind the next bytes, or OVERTAKEN_SECONDS late where none come.
        """
        with self._changed:
            self._free = max(self._free, self._clock.monotonic()) + len(data) * self._seconds_per_byte
            due = max(self._due, self._free + later)
            if overtaken:
                self._held.append((due + OVERTAKEN_SECONDS, data))
            else:
                self._due = due
                self._queue.append((due, data))
                if data.strip(b"\0"):  # a single delimiter is no frame
                    self._queue.extend((due, held) for _, held in self._held)
                    self._held.clear()
            self._changed.notify_all()

    def stall(self, seconds: float) -> None:
        """Stops the transmission for ``seconds``."""
        with self._changed:
            self._free = max(self._free, self._clock.monotonic()) + seconds

    def fail(self, error: PortError) -> None:
        """Ends the queue: ``get`` raises such an error once all bytes have arrived."""
        with self._changed:
            self._ended = self._ended or (error.url, error.text)
            self._changed.notify_all()

    def check(self) -> None:
        """Raises an error like the one that ended the queue, if any.

        The error itself would lead, by its traceback, back to this queue and to all that has used it.
        """
        if self._ended is not None:
            raise PortError(*self._ended)

    def get(self, timeout: float) -> bytes:
        """Waits for bytes and returns all that have arrived; b"" after ``timeout`` seconds. Raises the error at the end."""
        until = self._clock.monotonic() + timeout
        with self._changed:
            while True:
                if arrived := self._arrived():
                    return arrived
                self.check()
                now = self._clock.monotonic()
                if now >= until:
                    return b""
                wake = until if self.due is None else min(until, self.due)
                self._clock.wait(self._changed, wake - now)

    @property
    def due(self) -> float | None:
        """Time of arrival of the next bytes, None if there are none."""
        return min((first[0][0] for first in (self._queue, self._held) if first), default=None)

    def _arrived(self) -> bytes:
        arrived, now = bytearray(), self._clock.monotonic()
        while self._queue and self._queue[0][0] <= now:
            arrived += self._queue.popleft()[1]
        while self._held and self._held[0][0] <= now:
            arrived += self._held.pop(0)[1]
        return bytes(arrived)


class FaultyTransport:
    """A line with injected faults and, where the plan says so, a slower speed; two threads move its bytes."""

    def __init__(self, inner: Transport, injector: Injector, reboot: Callable[[], None] | None) -> None:
        plan = injector.plan
        self.name = inner.name
        self.baud = plan.baud or inner.baud
        self._inner = inner
        self._injector = injector
        self._reboot = reboot
        self._closed = False
        self._down, self._up = Lane(plan.baud, injector.clock), Lane(plan.baud, injector.clock)
        self._touches_up = plan.up != Rates()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._carry_down, self._carry_up)]
        for thread in self._threads:
            thread.start()

    def read(self, timeout: float) -> bytes:
        """See Transport."""
        return self._up.get(timeout)

    def write(self, data: bytes) -> None:
        """See Transport."""
        self._down.check()
        for frame in _frames(data):
            self._send(frame, "down")

    def close(self) -> None:
        """See Transport."""
        if self._closed:
            return
        self._closed = True
        self._end(PortError(self.name, "is closed"))
        for thread in self._threads:  # first, because another line may get the descriptor's number after close()
            thread.join()
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _send(self, frame: bytes, way: str) -> None:
        """Applies faults to one frame and puts it into the queue of its direction."""
        plan = self._injector.plan
        rates, lane, later = (plan.down, self._down, 0.0) if way == "down" else (plan.up, self._up, plan.latency)
        if len(frame) > 1 and rates != Rates():  # a single delimiter is no frame
            hit = self._injector.hits(rates, way)
            later += self._injector.delay(rates, way)
            if "stall" in hit:
                lane.stall(STALL_SECONDS)
            if "disconnect" in hit:
                self._end(PortError(self.name, "the line went away (injected)"))
                return
            if "reboot" in hit and self._reboot is not None:
                self._reboot()
                return
            frame = self._injector.damage(frame, hit, way)
            if "reorder" in hit:
                lane.put(frame, later, overtaken=True)
                return
        if plan.baud is None or way == "down":  # a device handles whole frames only, so they may arrive in one piece
            lane.put(frame, later)
            return
        for at in range(0, len(frame), PIECE_BYTES):
            lane.put(frame[at : at + PIECE_BYTES], later)

    def _end(self, error: PortError) -> None:
        self._down.fail(error)
        self._up.fail(error)

    def _carry_down(self) -> None:
        with suppress(LinkError):  # the queue was ended
            while True:
                data = self._down.get(60.0)
                try:
                    self._inner.write(data)
                except PortError as error:
                    self._end(error)

    def _carry_up(self) -> None:
        pending = b""
        while not self._closed:
            try:
                data = self._inner.read(_POLL_SECONDS)
            except PortError as error:
                self._end(error)
                return
            if not self._touches_up:
                self._send_up(data)
                continue
            *whole, pending = _frames(pending + data, keep_rest=True)
            if not data and pending:  # bytes without a delimiter
                whole, pending = [pending], b""
            for frame in whole:
                self._send(frame, "up")

    def _send_up(self, data: bytes) -> None:
        if data:
            self._send(data, "up")


def _frames(data: bytes, *, keep_rest: bool = False) -> list[bytes]:
    """Splits ``data`` after every 0x00; with ``keep_rest`` the last piece is what follows the last 0x00, even if empty."""
    pieces = [piece + b"\0" for piece in data.split(b"\0")]
    rest = pieces.pop()[:-1]
    return [*pieces, rest] if keep_rest or rest else pieces


def paced(baud: int, latency: float) -> FaultPlan:
    """A line without faults, with the speed (bit/s) and the latency (seconds) of a real one."""
    return replace(FaultPlan(), baud=baud, latency=latency)
