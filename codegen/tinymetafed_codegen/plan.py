"""Tensor lifetimes to offsets in one static arena; pure."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import BackwardCall, Call, Graph, Tensor
from .protocol import Variant

ALIGNMENT = 4  # floats: 16 bytes, so that a vector load never straddles
HISTOGRAM_BINS = 128  # counters of the Top-P% selection, which runs between training steps; a power of two


@dataclass(frozen=True)
class Slot:
    """A tensor's place in the arena, in floats, and the steps of the timeline (first, last) during which it holds data.

    Where a step works in place, one tensor's last step is the first of another one at the same offset.
    """

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

    A result takes the place of what it is made from where the op works in place and nobody reads that later. The timeline
    is that of the full variant, which keeps every tensor at least as long as the others do.
    """
    steps: list[str] = ["sample"]
    lives: dict[str, _Life] = {}

    def use(tensor: Tensor) -> None:
        life = lives.setdefault(tensor.name, _Life(tensor, len(steps) - 1, 0))
        life.last = len(steps) - 1

    use(graph.input)
    use(graph.target)
    made: list[tuple[int, Call | BackwardCall]] = []
    for call in graph.forward:
        steps.append(f"forward {call.op.name}")
        made.append((len(steps) - 1, call))
        for tensor in (*call.reads, *call.writes):
            use(tensor)
    steps.append("loss")
    for tensor in (graph.output, graph.target, graph.output_gradient):
        use(tensor)
    for back in graph.backward[Variant.FULL]:
        steps.append(f"backward {back.op.name}" if back.op.name else back.op.kind)
        made.append((len(steps) - 1, back))
        for tensor in (*back.reads, *back.writes):
            use(tensor)

    shared: dict[str, list[_Life]] = {name: [life] for name, life in lives.items()}  # by tensor: all in its place
    for step, some in made:
        taken = next((t for t in some.reusable if lives[t.name].last == step), None)
        if taken is not None and some.writes:
            result = some.writes[0]
            shared[result.name] = shared[taken.name]
            shared[taken.name].append(lives[result.name])
    places = list({id(place): place for place in shared.values()}.values())
    slots = _place(places)
    floats = max([HISTOGRAM_BINS, *(slot.end for slot in slots)])
    return Plan(tuple(sorted(slots, key=lambda slot: (slot.offset, slot.first))), tuple(steps), _align(floats))


@dataclass
class _Life:
    """A tensor and the steps during which it holds data."""

    tensor: Tensor
    first: int
    last: int


def _align(floats: int) -> int:
    return -(-floats // ALIGNMENT) * ALIGNMENT


def _place(places: list[list[_Life]]) -> list[Slot]:
    """Each place holds tensors of one size, one after the other."""
    slots: list[Slot] = []
    for place in sorted(places, key=lambda place: (-place[0].tensor.size, place[0].first, place[0].tensor.name)):
        first, last = place[0].first, place[-1].last
        alive = sorted((s for s in slots if s.first <= last and first <= s.last), key=lambda slot: slot.offset)
        offset = 0
        for slot in alive:
            if offset + place[0].tensor.size <= slot.offset:
                break
            offset = max(offset, _align(slot.end))
        slots += [Slot(life.tensor, offset, life.first, life.last) for life in place]
    return slots
