"""Decides which activations a board keeps of each sample, so that later passes begin behind the layers that do not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from ..calls import Call, Tensor, trains
from ..graph import Graph
from ..manifest import KeptActivations, Memory
from ..options import augmentation
from ..protocol import SampleSet, Variant
from ..spec import Experiment
from . import work

PURPOSE = "activations kept for later passes"
RAM_BYTES = 32  # besides the activations: the phase that they belong to and their number
FLASH_BYTES = 600
BOTH_FLASH_BYTES = 300  # more, where those of frozen layers have a place of their own
LEAST_MULTIPLY_ACCUMULATES = 10_000  # of layers that only some steps leave as they are; for fewer, the time saved is little


@dataclass(frozen=True)
class Prefix:
    """The first ``calls`` of the forward pass, whose weights do not change; the later ones read only ``boundary`` of theirs."""

    calls: tuple[Call, ...]
    boundary: Tensor

    @property
    def layers(self) -> int:
        """The number of layers among the calls."""
        return sum(bool(call.op.name) for call in self.calls)

    @property
    def multiply_accumulates(self) -> int:
        """What they cost."""
        return work.multiply_accumulates_of(self.calls)

    @property
    def is_frozen(self) -> bool:
        """Whether no step changes them."""
        return not any(_changes(call, Variant.FULL) for call in self.calls)

    @property
    def is_worth_it(self) -> bool:
        """Whether they take enough computation. Frozen ones stay the same in every step, so that more than a copy is enough."""
        least = self.boundary.floats + 1 if self.is_frozen else LEAST_MULTIPLY_ACCUMULATES
        return self.multiply_accumulates >= least


def prefix_of(net: Graph, variant: Variant) -> Prefix | None:
    """The part at the beginning of the forward pass that steps of this variant need to compute only once per sample.

    Args:
        net: The model's graph.
        variant: The variant of the steps.

    Returns:
        The prefix; None if there is none, if more than one of its tensors is read after it, or if it takes so little
        computation that it is not worth memory.
    """
    if not net.backward[variant]:
        return None
    fixed = list(takewhile(lambda call: not _changes(call, variant), net.forward_of(variant)))
    cuts = [each for length in range(1, len(fixed) + 1) if (each := _cut(net, variant, length)) is not None]
    found = [each for each in cuts if each.is_worth_it]
    # Of those that leave out as many products, the one with the smallest tensor: int8 before it becomes float32.
    return max(found, key=lambda each: (each.multiply_accumulates, -each.boundary.floats, len(each.calls)), default=None)


def _cut(net: Graph, variant: Variant, length: int) -> Prefix | None:
    """The first calls of the forward pass, if the later ones, forward and backward, read one tensor of them and no input."""
    forward = net.forward_of(variant)
    if forward[:length] != net.forward_of(None)[:length]:
        return None  # it saves something for the backward pass
    before, after = forward[:length], (*forward[length:], *net.backward[variant])
    made = {tensor.name: tensor for tensor in (net.input, *(written for call in before for written in call.writes))}
    crossing = {tensor.name for call in after for tensor in call.reads} & made.keys()
    return Prefix(before, made[crossing.pop()]) if len(crossing) == 1 and net.input.name not in crossing else None


def _changes(call: Call, variant: Variant) -> bool:
    """Whether steps of this variant change the op's weights, or the model takes statistics of its input."""
    return trains(call.op, variant) or call.op.observes


def prefixes(net: Graph) -> dict[Variant, Prefix]:
    """The prefix of each variant that has one."""
    return {variant: found for variant in net.backward if (found := prefix_of(net, variant)) is not None}


def frozen_of(found: Mapping[Variant, Prefix]) -> Prefix | None:
    """The frozen layers at the beginning of longer prefixes; None if no variant, or every one, leaves out just these."""
    shortest = min(found.values(), key=lambda each: len(each.calls), default=None)
    longer = shortest is not None and any(len(each.calls) > len(shortest.calls) for each in found.values())
    return shortest if longer and shortest is not None and shortest.is_frozen else None


def plan(experiment: Experiment, net: Graph, memory: Memory, room: int) -> KeptActivations | None:
    """Plans how many samples' activations a board keeps.

    Args:
        experiment: The complete experiment.
        net: The model's graph.
        memory: What the model needs without them, and what the board has.
        room: Bytes of RAM for them.

    Returns:
        What is kept: of all samples of the largest set, or of as many as there is room for. None if there is nothing to keep,
        no room for it, or the experiment says not to.
    """
    found = prefixes(net)
    counts = _counts(experiment, found)
    if not counts or not experiment.board.keeps or memory.flash + FLASH_BYTES > memory.flash_available:
        return None
    wanted, room, frozen = max(counts), room - RAM_BYTES, frozen_of(found)
    floats = max(prefix.boundary.floats for prefix in found.values())
    if frozen is not None:
        longer = max(each.boundary.floats for each in found.values() if each != frozen)
        both = frozen.boundary.floats + longer
        if wanted * _bytes(both, net) <= room and memory.flash + FLASH_BYTES + BOTH_FLASH_BYTES <= memory.flash_available:
            floats = both
        else:
            frozen = None  # they take the same place
    samples = min(wanted, room // _bytes(floats, net))
    if samples < 1:
        return None
    fits = {
        variant: samples if frozen else min(wanted, room // _bytes(prefix.boundary.floats, net))
        for variant, prefix in found.items()
    }
    size = max(fits[variant] * _bytes(floats if frozen else each.boundary.floats, net) for variant, each in found.items())
    return KeptActivations(
        samples,
        wanted,
        floats,
        RAM_BYTES + size,
        {variant.name.lower(): prefix.layers for variant, prefix in found.items()},
        {variant.name.lower(): prefix.multiply_accumulates for variant, prefix in found.items()},
        augmentation.changed_sets(experiment),
        0 if frozen is None else frozen.layers,
        {variant.name.lower(): number for variant, number in fits.items() if number > samples},
    )


def obstacle(experiment: Experiment, net: Graph, memory: Memory, room: int) -> str:
    """Why a board keeps nothing although steps leave layers as they are, for people; empty if that is not so.

    Arguments are those of ``plan``.
    """
    found = prefixes(net)
    if not _counts(experiment, found) or not experiment.board.keeps:
        return ""
    one = RAM_BYTES + _bytes(max(prefix.boundary.floats for prefix in found.values()), net)
    if room < one:
        left = f"{max(room, 0):,} are left for them"
        return f"no activations are kept for later passes: those of one sample take {one:,} bytes, {left}"
    fits = memory.flash + FLASH_BYTES <= memory.flash_available
    return "" if fits else f"no activations are kept for later passes: the code takes about {FLASH_BYTES} bytes of flash"


def flash_bytes(kept: KeptActivations) -> int:
    """An estimate of the code for what is kept."""
    return FLASH_BYTES + BOTH_FLASH_BYTES * (kept.frozen > 0)


def _counts(experiment: Experiment, found: Mapping[Variant, Prefix]) -> list[int]:
    """Samples of the sets whose activations are worth keeping; none if there are no prefixes."""
    sets = [SampleSet.SUPPORT, SampleSet.ADAPT] + [SampleSet.QUERY] * bool(found.keys() - {Variant.LOCAL})
    # Of a set that augmentation changes, the next pass has other inputs.
    return [experiment.task.count(each) for each in sets if found and not augmentation.changes(experiment, each)]


def _bytes(floats: int, net: Graph) -> int:
    """Of one sample."""
    return 4 * (floats + net.target.size)
