"""Places every tensor in one static arena, so that tensors in use at the same time never overlap."""

from __future__ import annotations

from dataclasses import dataclass

from .calls import BackwardCall, Call, Tensor
from .graph import Graph
from .memory import placement
from .protocol import Variant

ALIGNMENT = 4  # floats: 16 bytes, so that vector loads are aligned
HISTOGRAM_BINS = 128  # counters of the Top-P% selection, which runs between training steps; a power of two


@dataclass(frozen=True)
class Slot:
    """A tensor's offset in the arena, in floats, and the first and last step of the timeline at which it holds data.

    Where a step works in place, the last step of one tensor is the first step of another tensor at the same offset.
    """

    tensor: Tensor
    offset: int
    first: int
    last: int

    @property
    def end(self) -> int:
        """The first float after the tensor."""
        return self.offset + self.tensor.floats


@dataclass(frozen=True)
class Plan:
    """The place of every tensor.

    ``steps`` are the names of the timeline's steps; ``floats`` is the size of the arena; ``live_floats`` is the most that is in
    use at one step, alignment included, which is the least that an arena of these tensors can take.
    """

    slots: tuple[Slot, ...]
    steps: tuple[str, ...]
    floats: int
    live_floats: int

    def offset(self, tensor: Tensor) -> int:
        """The offset of a tensor, in floats."""
        return next(slot.offset for slot in self.slots if slot.tensor.name == tensor.name)


def plan(graph: Graph) -> Plan:
    """Places all tensors; ``placement`` decides where.

    Two tensors whose lifetimes overlap never share a float. Where an op works in place and its input is not read later, its
    result takes the input's place. The timeline is that of Variant.FULL, in which every tensor lives at least as long as in
    the other variants.
    """
    steps, places = _timeline(graph)
    blocks = [_block(place) for place in places]
    slots = [
        Slot(lifetime.tensor, offset, lifetime.first, lifetime.last)
        for place, offset in zip(places, placement.place(blocks), strict=True)
        for lifetime in place
    ]
    floats = _align(max([HISTOGRAM_BINS, *(slot.end for slot in slots)]))
    return Plan(tuple(sorted(slots, key=lambda slot: (slot.offset, slot.first))), tuple(steps), floats, _live(blocks))


def first_fit_floats(graph: Graph) -> int:
    """Floats of an arena that is placed without a search: the largest tensor first, each in the lowest gap that fits."""
    blocks = [_block(place) for place in _timeline(graph)[1]]
    return max(HISTOGRAM_BINS, placement.height(blocks, placement.first_fit(blocks, range(len(blocks)))))


def live_floats(graph: Graph) -> int:
    """``Plan.live_floats`` of the graph's plan, without placing anything."""
    return _live([_block(place) for place in _timeline(graph)[1]])


def _timeline(graph: Graph) -> tuple[list[str], list[list[_Lifetime]]]:
    """The names of the steps, and the tensors of each place: they have the same size and follow each other in time."""
    steps: list[str] = ["sample"]
    lifetimes: dict[str, _Lifetime] = {}

    def use(tensor: Tensor) -> None:
        lifetime = lifetimes.setdefault(tensor.name, _Lifetime(tensor, len(steps) - 1, 0))
        assert tensor.floats == lifetime.tensor.floats, f"{tensor.name} is read in two formats"
        lifetime.last = len(steps) - 1

    use(graph.input)
    use(graph.target)
    calls: list[tuple[int, Call | BackwardCall]] = []
    for call in graph.forward_of(Variant.FULL):
        steps.append(f"forward {call.op.name}" if call.op.name else call.op.kind)
        calls.append((len(steps) - 1, call))
        for tensor in (*call.reads, *call.writes):
            use(tensor)
    steps.append("loss")
    if graph.keeps_input:
        use(graph.input)
    for tensor in (graph.output, graph.target, graph.output_gradient):
        use(tensor)
    step_of: dict[str, int] = {}  # calls that other variants have as well
    for back in graph.backward[Variant.FULL]:
        direction = "again" if _is_again(back) else "backward"
        steps.append(f"{direction} {back.op.name}" if back.op.name else back.op.kind)
        calls.append((len(steps) - 1, back))
        if not _is_again(back):
            step_of[_key(back)] = len(steps) - 1
        for tensor in (*back.reads, *back.writes):
            use(tensor)
    # A variant with fewer readers of an activation may make it again later, before another one of them.
    made_for = _made_for(graph.backward[Variant.FULL])
    for variant_calls in graph.backward.values():
        for again, reader in _made_for(variant_calls).values():
            if _key(reader) == _key(made_for[again.y.name][1]):
                continue
            for tensor in again.reads:
                lifetimes[tensor.name].last = max(lifetimes[tensor.name].last, step_of[_key(reader)])

    shared: dict[str, list[_Lifetime]] = {name: [lifetime] for name, lifetime in lifetimes.items()}  # tensors of one place
    for step, some in calls:
        taken = next((t for t in some.reusable if lifetimes[t.name].last == step), None)
        if taken is not None and some.writes:
            result = some.writes[0]
            shared[result.name] = shared[taken.name]
            shared[taken.name].append(lifetimes[result.name])
    places = {id(place): place for place in shared.values()}.values()
    return steps, sorted(places, key=lambda place: (-place[0].tensor.floats, place[0].first, place[0].tensor.name))


@dataclass
class _Lifetime:
    """A tensor and the first and last step at which it holds data."""

    tensor: Tensor
    first: int
    last: int


def _align(floats: int) -> int:
    return -(-floats // ALIGNMENT) * ALIGNMENT


def _is_again(call: Call | BackwardCall) -> bool:
    return isinstance(call, Call) and call.again


def _made_for(calls: tuple[Call | BackwardCall, ...]) -> dict[str, tuple[Call, Call | BackwardCall]]:
    """The calls that make an activation again, by its name, and the call that it is made for: the next other one."""
    found: dict[str, tuple[Call, Call | BackwardCall]] = {}
    reader = calls[-1] if calls else None
    for call in reversed(calls):
        if isinstance(call, Call) and call.again:
            assert reader is not None
            found[call.y.name] = (call, reader)
        else:
            reader = call
    return found


def _key(call: Call | BackwardCall) -> str:
    """What identifies a call in the backward passes of all variants."""
    return call.op.name or call.writes[0].name


def _block(place: list[_Lifetime]) -> placement.Block:
    return placement.Block(_align(place[0].tensor.floats), place[0].first, place[-1].last)


def _live(blocks: list[placement.Block]) -> int:
    return max(HISTOGRAM_BINS, placement.live_maximum(blocks))
