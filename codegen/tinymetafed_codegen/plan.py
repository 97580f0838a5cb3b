"""Tensor lifetimes to offsets in one static arena; pure."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Graph, Tensor
from .protocol import Variant

ALIGNMENT = 4  # floats: 16 bytes, so that a vector load never straddles
HISTOGRAM_WORDS = 256  # counters of the Top-P% selection, which runs between training steps


@dataclass(frozen=True)
class Slot:
    """A tensor's place in the arena, in floats, and the steps of the timeline (first, last) during which it holds data."""

    tensor: Tensor
    offset: int
    first: int
    last: int

    @property
    def end(self) -> int:
        """First float after it."""
        return self.offset + self.tensor.size


@dataclass(frozen=True)
class Plan:
    """Where every tensor lies. ``steps`` names the timeline's steps for the arena map."""

    slots: tuple[Slot, ...]
    steps: tuple[str, ...]
    floats: int

    def offset(self, tensor: Tensor) -> int:
        """Where a tensor starts, in floats."""
        return next(slot.offset for slot in self.slots if slot.tensor.name == tensor.name)


def plan(graph: Graph) -> Plan:
    """Places tensors so that two whose lifetimes overlap never share a float; largest first, lowest gap that fits.

    The timeline is that of the full variant, which keeps every tensor at least as long as the others do.
    """
    steps: list[str] = []
    uses: dict[str, tuple[Tensor, list[int]]] = {}

    def use(tensor: Tensor) -> None:
        uses.setdefault(tensor.name, (tensor, []))[1].append(len(steps))

    use(graph.input)
    use(graph.target)
    steps.append("sample")
    for call in graph.forward:
        use(call.x)
        use(call.y)
        steps.append(f"forward {call.op.name}")
    for tensor in (graph.output, graph.target, graph.output_gradient):
        use(tensor)
    steps.append("loss")
    for back in graph.backward[Variant.FULL]:
        use(back.x)
        use(back.dy)
        if back.dx is not None:
            use(back.dx)
        steps.append(f"backward {back.op.name}")
    lifetimes = [(tensor, at[0], at[-1]) for tensor, at in uses.values()]
    slots = _place(lifetimes)
    floats = max([HISTOGRAM_WORDS, *(slot.end for slot in slots)])
    return Plan(tuple(sorted(slots, key=lambda slot: (slot.offset, slot.first))), tuple(steps), _align(floats))


def _align(floats: int) -> int:
    return -(-floats // ALIGNMENT) * ALIGNMENT


def _place(lifetimes: list[tuple[Tensor, int, int]]) -> list[Slot]:
    slots: list[Slot] = []
    for tensor, first, last in sorted(lifetimes, key=lambda item: (-item[0].size, item[1], item[0].name)):
        alive = sorted((s for s in slots if s.first <= last and first <= s.last), key=lambda slot: slot.offset)
        offset = 0
        for slot in alive:
            if offset + tensor.size <= slot.offset:
                break
            offset = max(offset, _align(slot.end))
        slots.append(Slot(tensor, offset, first, last))
    return slots
