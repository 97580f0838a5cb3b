"""Decides which activations a board keeps of each sample, so that later passes begin behind the layers that do not change."""

from __future__ import annotations

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
LEAST_MULTIPLY_ACCUMULATES = 10_000  # of the layers that are left out; for fewer, the time saved is not worth the memory


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
    found = [each for length in range(1, len(fixed) + 1) if (each := _cut(net, variant, length)) is not None]
    # Of those that leave out as many products, the one with the smallest tensor: int8 before it becomes float32.
    best = max(found, key=lambda each: (each.multiply_accumulates, -each.boundary.floats, len(each.calls)), default=None)
    return None if best is None or best.multiply_accumulates < LEAST_MULTIPLY_ACCUMULATES else best


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
    if not found or not experiment.board.keeps or memory.flash + FLASH_BYTES > memory.flash_available:
        return None
    sets = [SampleSet.SUPPORT, SampleSet.ADAPT] + [SampleSet.QUERY] * bool(found.keys() - {Variant.LOCAL})
    sets = [each for each in sets if not augmentation.changes(experiment, each)]  # of others the next pass changes the input
    if not sets:
        return None
    wanted = max(map(experiment.task.count, sets))
    floats = max(prefix.boundary.floats for prefix in found.values())
    each = 4 * (floats + net.target.size)
    samples = min(wanted, (room - RAM_BYTES) // each)
    if samples < 1:
        return None
    layers = {variant.name.lower(): prefix.layers for variant, prefix in found.items()}
    products = {variant.name.lower(): prefix.multiply_accumulates for variant, prefix in found.items()}
    changed = augmentation.changed_sets(experiment)
    return KeptActivations(samples, wanted, floats, RAM_BYTES + samples * each, layers, products, changed)
