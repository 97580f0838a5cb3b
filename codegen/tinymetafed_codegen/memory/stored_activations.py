"""Decides how activations wait for the backward pass: as they are, packed as float16, or not at all, to be computed again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from .. import plan
from ..calls import BackwardCall, Call, Tensor
from ..graph import Graph
from ..ops import Int8Op, PackHalf, UnpackHalf, own_op
from ..protocol import Variant
from ..spec import Experiment
from . import work

# An output that takes at most so many multiply-accumulates is computed again: a depthwise convolution of 5x5, but no other one.
CHEAP_MULTIPLY_ACCUMULATES = 25
LEAST_SHARE = 100  # tensors below one part in so many of the arena are stored as they are
MOST_CALLS = 8_000  # of the graphs that are compared, so that very deep networks take no longer than about 0.2 s


@dataclass(frozen=True)
class Storage:
    """The tensors that are not stored as they are, by name: those computed ``again``, and those ``packed`` as float16."""

    again: frozenset[str] = frozenset()
    packed: frozenset[str] = frozenset()

    def without(self, name: str) -> Storage:
        """The same, with one more tensor stored as it is."""
        return Storage(self.again - {name}, self.packed - {name})


def arranged(net: Graph, experiment: Experiment) -> Graph:
    """The graph as its experiment stores activations: board.memory = "least" computes again, model.activations = "f16" packs.

    Neither changes a bit of what is trained: numbers that are packed are rounded to float16 before anything reads them.
    """
    return stored(net, chosen(net, again=experiment.board.memory == "least"))


def chosen(net: Graph, *, again: bool) -> Storage:
    """The storage with the smallest arena that was found; where others are as small, one with less work.

    Args:
        net: The graph as ``graph.build`` made it.
        again: Whether activations may be computed again.
    """
    candidates = _candidates(net)
    packed = frozenset(candidates) if net.rounds else frozenset()
    cheap = frozenset(name for name, call in candidates.items() if again and _is_cheap(net, call))
    plain = Storage()
    begun = dict.fromkeys((Storage(packed=packed), Storage(again=cheap), Storage(cheap, packed - cheap)))
    trials = MOST_CALLS // (len(begun) * sum(map(len, (net.forward, net.backward[Variant.FULL]))))
    found = [_trimmed(net, storage, candidates, trials) for storage in begun if storage != plain]
    return min([plain, *found], key=lambda storage: plan.live_floats(stored(net, storage)))


def _candidates(net: Graph) -> dict[str, Call]:
    """The calls with outputs that the backward pass reads, by the output's name, without the model's and without small ones."""
    read, least = _read_backward(net) - {net.output.name}, plan.live_floats(net) / LEAST_SHARE
    return {call.y.name: call for call in net.forward if call.y.name in read and call.y.floats >= least}


def _read_backward(net: Graph) -> set[str]:
    return {tensor.name for call in net.backward[Variant.FULL] for tensor in call.reads}


def _is_cheap(net: Graph, call: Call) -> bool:
    """Whether an op with weights takes few multiply-accumulates, and reads what the backward pass has at hand anyway."""
    op = call.op
    if not op.parameters or isinstance(op, Int8Op) or own_op.is_own(type(op)):
        return False
    at_hand = _read_backward(net)
    few = work.of_forward(op) <= CHEAP_MULTIPLY_ACCUMULATES * math.prod(op.output_shape)
    return few and all(tensor.name in at_hand for tensor in call.reads)


def _trimmed(net: Graph, storage: Storage, candidates: dict[str, Call], trials: int) -> Storage:
    """The storage without what does not make the arena smaller.

    The most work is left out first. ``trials``: how many tensors are tried.
    """
    begun, floats = storage, plan.live_floats(stored(net, storage))

    def most_work_first(name: str) -> tuple[int, int, str]:
        call = candidates[name]
        return -work.of_forward(call.op) * (name in begun.again), -call.y.size, name

    for name in sorted(storage.again | storage.packed, key=most_work_first)[:trials]:
        less = storage.without(name)
        now = plan.live_floats(stored(net, less))
        if now <= floats:
            storage, floats = less, now
    return storage


def stored(net: Graph, storage: Storage) -> Graph:
    """The graph with some tensors stored otherwise.

    Before the first call of a backward pass that reads such a tensor, it is made a second time, under another name: unpacked,
    or computed by the call that computed it before, with the same weights, which change only later. What that call reads is
    made in the same way where necessary.

    Args:
        net: The graph as ``graph.build`` made it.
        storage: The tensors.
    """
    if storage == Storage():
        return net
    made_by = {call.y.name: call for call in net.forward}
    last_reader = {tensor.name: call for call in net.forward for tensor in call.reads}
    halves = {name: _half(made_by[name].y) for name in sorted(storage.packed)}
    packing: dict[str, tuple[Call, ...]] = {}
    for name, half in halves.items():
        tensor = made_by[name].y
        after = last_reader[name].op.name
        packing[after] = (*packing.get(after, ()), Call(PackHalf("", tensor.shape, tensor.shape), tensor, half))
    again = {name: made_by[name] for name in storage.again}
    backward = {variant: tuple(_Backward(net, again, halves).calls(calls)) for variant, calls in net.backward.items()}
    return dataclasses.replace(net, backward=backward, packing=packing)


def _half(tensor: Tensor) -> Tensor:
    return Tensor(f"{tensor.name}_f16", tensor.shape, f"{tensor.note}, packed", half=True)


class _Backward:
    """The calls of one backward pass, with those that make tensors a second time."""

    def __init__(self, net: Graph, again: dict[str, Call], halves: dict[str, Tensor]) -> None:
        self._net = net
        self._again = again
        self._halves = halves
        self._made: dict[str, Tensor] = {}

    def calls(self, calls: tuple[Call | BackwardCall, ...]) -> Iterator[Call | BackwardCall]:
        for call in calls:
            for tensor in call.reads:
                yield from self._make(tensor)
            if isinstance(call, Call):
                yield self._reading(call)
            else:
                yield dataclasses.replace(call, x=self._now(call.x), y=self._now(call.y))

    def _now(self, tensor: Tensor) -> Tensor:
        """The tensor's second one, if there is one."""
        made = self._made.get(tensor.name)
        return tensor if made is None else dataclasses.replace(made, shape=tensor.shape)

    def _reading(self, call: Call) -> Call:
        return dataclasses.replace(call, x=self._now(call.x), other=None if call.other is None else self._now(call.other))

    def _make(self, tensor: Tensor) -> Iterator[Call]:
        if tensor.name in self._made:
            return
        second = Tensor(f"{tensor.name}_again", tensor.shape, f"{tensor.note}, again")
        if half := self._halves.get(tensor.name):
            yield Call(UnpackHalf("", tensor.shape, tensor.shape), half, second, again=True)
        elif call := self._again.get(tensor.name):
            for read in call.reads:
                yield from self._make(read)
            # Places for its work of its own: those of the forward pass need not wait.
            places = tuple(dataclasses.replace(place, name=f"{place.name}_again") for place in call.work)
            repeated = dataclasses.replace(self._reading(call), y=second, saved_mask=None, work=places, again=True)
            yield repeated
            for rounding in self._net.rounding(repeated):
                yield dataclasses.replace(rounding, again=True)
        else:
            return
        self._made[tensor.name] = second
