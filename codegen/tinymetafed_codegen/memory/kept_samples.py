"""Decides which samples a board keeps as the host sends them, so that it is sent each of them once."""

from __future__ import annotations

from ..graph import Graph
from ..manifest import KeptActivations, KeptSamples, Memory
from ..options import adaptation, augmentation, sample_source
from ..protocol import Dtype, SampleSet
from ..spec import Experiment
from . import kept_activations

PURPOSE = "samples kept for later passes"
RAM_BYTES = 32  # besides the samples: the set that they belong to, their number and their scale
FLASH_BYTES = 520


def plan(
    experiment: Experiment, net: Graph, memory: Memory, activations: KeptActivations | None, *, takes_parts: bool
) -> KeptSamples | None:
    """Plans how many samples a board keeps.

    Args:
        experiment: The complete experiment.
        net: The model's graph.
        memory: What the model needs without anything that is kept, and what the board has.
        activations: What the board keeps of activations, which come first.
        takes_parts: Whether a sample may come in several messages.

    Returns:
        What is kept: all samples of the largest set that comes several times and fits into what activations leave of half of
        the free RAM. None if no set comes several times, none fits, samples come in parts, or the experiment says not to.
    """
    if sample_source.name(experiment) != "streamed" or takes_parts or not experiment.board.keeps:
        return None
    flash, room = memory.flash, (memory.ram_available - memory.ram_total) // kept_activations.SHARE_OF_FREE_RAM
    if activations is not None:
        flash, room = flash + kept_activations.FLASH_BYTES, room - activations.bytes
    counts = _sent_again(experiment, net, activations)
    each = 4 * net.target.size + experiment.task.bytes_per_input * net.input.size
    samples = max((count for count in counts if RAM_BYTES + count * each <= room), default=0)
    if samples == 0 or flash + FLASH_BYTES > memory.flash_available:
        return None
    dtype = Dtype.U8 if experiment.task.bytes_per_input == 1 else Dtype.F32
    changed = augmentation.changed_sets(experiment)
    return KeptSamples(samples, max(counts), dtype.name, each, RAM_BYTES + samples * each, changed)


def _sent_again(experiment: Experiment, net: Graph, activations: KeptActivations | None) -> list[int]:
    """The sizes of the sets of which the host would send each sample several times."""
    task, held = experiment.task, 0
    if activations is not None and set(activations.layers) >= {variant.name.lower() for variant in net.backward}:
        held = activations.samples  # whatever the steps change
    uses = experiment.strategy.uses if experiment.strategy.has_rounds else (0, 0)
    found = [
        sample_set
        for sample_set, passes in zip((SampleSet.SUPPORT, SampleSet.QUERY), uses, strict=True)
        if passes > 1 and task.count(sample_set) > held
    ]
    adapting = adaptation.phases(experiment, task.count(SampleSet.ADAPT))
    sent = [phase.passes for phase in adapting] if activations is None else activations.passes_sent(adapting)
    if sum(sent) > 1:
        found.append(SampleSet.ADAPT)
    return [task.count(each) for each in found if not augmentation.changes(experiment, each)]
