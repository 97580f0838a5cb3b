"""What it takes to bring weights to simulated clients: all of them, or what differs from those that a client holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymetafed_codegen.optional_messages.difference_messages import MoreDifference

from ..learn.codecs.difference import Coded, Versions
from ..learn.codecs.downlink import Segment
from ..learn.codecs.level_load import LeveledWeights
from ..wire.messages import bytes_on_wire, loads_on_wire, weights_payload


@dataclass(frozen=True)
class Downloaded:
    """Messages that bring weights to the clients of a round, their bytes, and by how much these are fewer than all weights."""

    messages: int
    bytes: int
    spared: int


class Downloads:
    """The downloads of a run. Each client is a board of its own, which holds the weights of its last round.

    Its memory does not grow with the clients: it remembers those that hold a version that is not forgotten.
    """

    def __init__(
        self,
        window: int,
        mac_bytes: int,
        *,
        by_difference: bool,
        measure: Callable[[LeveledWeights], tuple[int, int]] | None = None,
    ) -> None:
        """Prepares a run.

        Args:
            window: The boards' receive window in bytes.
            mac_bytes: Bytes of the MAC behind each payload; 0 without one.
            by_difference: Whether boards take differences.
            measure: Counts the messages that bring weights as levels, and their bytes; None: they travel otherwise.
        """
        self._line = window, mac_bytes
        self._measure = measure
        self._versions = Versions() if by_difference else None
        self._held: dict[int, bytes] = {}  # fingerprints by client, in the order of their last rounds

    def send(self, clients: Sequence[int], segments: Sequence[Segment]) -> Downloaded:
        """What it takes to bring the weights ``segments`` to these clients, as the devices' host does it."""
        full = self._full(segments)
        if self._versions is None:
            return Downloaded(len(clients) * full[0], len(clients) * full[1], 0)
        version = self._versions.newest(segments)
        messages = size = 0
        for held, boards in Counter(self._held.pop(client, None) for client in clients).items():
            coded = None if held is None else self._versions.difference(held, version)
            each = full if coded is None else difference_on_wire(coded, *self._line)
            messages, size = messages + boards * each[0], size + boards * each[1]
        self._held.update(dict.fromkeys(clients, version.fingerprint))
        while self._held and self._held[oldest := next(iter(self._held))] not in self._versions:
            del self._held[oldest]
        return Downloaded(messages, size, len(clients) * full[1] - size)

    def _full(self, segments: Sequence[Segment]) -> tuple[int, int]:
        """The messages that bring all weights to one board, and their bytes."""
        levels = segments[0].levels if segments else None
        if levels is None or self._measure is None:
            return loads_on_wire(segments, *self._line)
        return self._measure(LeveledWeights.of(segments, levels))


def difference_on_wire(coded: Coded, window: int, mac_bytes: int = 0) -> tuple[int, int]:
    """The messages of a difference: how many, and their bytes on the line, each sent once; as ``loads_on_wire``."""
    count = size = rank = 0
    while not count or rank < coded.entries:
        message, rank = coded.message(0, rank, weights_payload(window, mac_bytes))
        payload, fields = message.pack(), message.fixed_size()
        known = payload[message.place("count" if isinstance(message, MoreDifference) else "base") :]
        size += bytes_on_wire(type(message), known, len(payload) - fields, mac_bytes)
        count += 1
    return count, size
