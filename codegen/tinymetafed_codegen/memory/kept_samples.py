"""Which samples a board can keep as the host sends them, so that it is sent each of them once."""

from __future__ import annotations

from ..graph import Graph
from ..manifest import KeptSamples, Memory
from ..options import augmentation, sample_source
from ..protocol import Dtype, SampleSet
from ..spec import Experiment

PURPOSE = "samples kept for later passes"
RAM_BYTES = 32  # besides the samples: the set that they belong to, their number and their scale
FLASH_BYTES = 520
SETS = (SampleSet.SUPPORT, SampleSet.QUERY, SampleSet.ADAPT)  # those that are trained


def choices(experiment: Experiment, net: Graph, memory: Memory, room: int, *, takes_parts: bool) -> list[KeptSamples]:
    """What a board can keep: the samples of each set that fits, with those of smaller sets.

    Args:
        experiment: The complete experiment.
        net: The model's graph, with the inputs that are sent.
        memory: What the model needs without anything that is kept, and what the board has.
        room: Bytes of RAM for them.
        takes_parts: Whether a sample may come in several messages.

    Returns:
        The choices, smallest first. None where the board makes its samples, where they come in parts or change in every pass,
        where none fits, and where the experiment says to keep nothing.
    """
    if sample_source.name(experiment) != "streamed" or takes_parts or not experiment.board.keeps:
        return []
    if memory.flash + FLASH_BYTES > memory.flash_available:
        return []
    inputs = experiment.task.bytes_per_input
    dtype, each = Dtype.U8 if inputs == 1 else Dtype.F32, 4 * net.target.size + inputs * net.input.size
    changed = augmentation.changed_sets(experiment)
    counts = sorted({experiment.task.count(chosen) for chosen in SETS if chosen.name.lower() not in changed})
    sizes = {count: RAM_BYTES + count * each for count in counts if count}
    return [KeptSamples(count, counts[-1], dtype.name, each, size, changed) for count, size in sizes.items() if size <= room]
