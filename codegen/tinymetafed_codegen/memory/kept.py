"""Divides a board's free RAM between the samples and the activations that it keeps for later passes, and a user's program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..graph import Graph
from ..manifest import KeptActivations, KeptSamples, Memory, ModelManifest, RamUse, passes_sent
from ..options import adaptation
from ..protocol import Phase, SampleSet, Variant
from ..spec import Experiment
from . import kept_activations, kept_samples

SHARE_OF_FREE_RAM = (2, 3)  # at most so much; the rest stays for a program of the user's own


@dataclass(frozen=True)
class Kept:
    """What a board keeps of samples for later passes, and its memory with that."""

    samples: KeptSamples | None
    activations: KeptActivations | None
    memory: Memory


def plan(experiment: Experiment, net: Graph, lowered: Graph, memory: Memory, *, takes_parts: bool) -> Kept:
    """Plans what a board keeps, and for how many samples.

    Samples come before activations, because a message takes longer than the layers that an activation leaves out: a sample of
    examples/omniglot.toml is 830 bytes with its answer, 72 ms at 115,200 baud; a whole step takes about a third of that on a
    Cortex-M4F of 64 MHz.

    Args:
        experiment: The complete experiment.
        net: The model's graph, with the inputs that are sent.
        lowered: The graph as it is made C++.
        memory: What the model needs without anything that is kept, and what the board has.
        takes_parts: Whether a sample may come in several messages.

    Returns:
        That with which the host sends the fewest samples, and of these the one that keeps the fewest samples, so that the most
        activations fit.
    """
    choices = _choices(experiment, net, lowered, memory, takes_parts=takes_parts)
    return min(choices, key=lambda kept: _samples_sent(experiment, kept))


def why_no_activations(experiment: Experiment, lowered: Graph, manifest: ModelManifest) -> str:
    """Why a board keeps no activations although steps leave layers as they are, for people; empty if that is not so."""
    if manifest.kept is not None:
        return ""
    samples = 0 if manifest.kept_samples is None else manifest.kept_samples.bytes
    room = _room(manifest.memory, samples) - samples
    return kept_activations.obstacle(experiment, lowered, manifest.memory, room)


def _room(memory: Memory, kept: int = 0) -> int:
    """Bytes of RAM for samples and activations. ``kept``: bytes of the memory's use that are such already."""
    part, of = SHARE_OF_FREE_RAM
    return part * (memory.ram_available - memory.ram_total + kept) // of


def _choices(experiment: Experiment, net: Graph, lowered: Graph, memory: Memory, *, takes_parts: bool) -> Iterator[Kept]:
    room = _room(memory)
    for samples in (None, *kept_samples.choices(experiment, net, memory, room, takes_parts=takes_parts)):
        used, left = memory, room
        if samples is not None:
            used = used.with_use(RamUse(kept_samples.PURPOSE, samples.bytes), kept_samples.FLASH_BYTES)
            left -= samples.bytes
        activations = kept_activations.plan(experiment, lowered, used, left)
        if activations is not None:
            used = used.with_use(RamUse(kept_activations.PURPOSE, activations.bytes), kept_activations.flash_bytes(activations))
        yield Kept(samples, activations, used)


def _samples_sent(experiment: Experiment, kept: Kept) -> int:
    """How many samples the host sends to a board for a round and an adaptation."""
    task = experiment.task
    uses = experiment.strategy.uses if experiment.strategy.has_rounds else (0, 0)
    sets = zip((SampleSet.SUPPORT, SampleSet.QUERY), uses, strict=True)
    # The variants of a round's steps are up to its strategy. What is kept for FULL steps is kept for all others too.
    training = [Phase(Variant.FULL, each, task.count(each), passes, 1.0, 0.0) for each, passes in sets if passes]
    adapting = adaptation.phases(experiment, task.count(SampleSet.ADAPT))
    return sum(
        phase.count * sent
        for phases in (training, adapting)
        for phase, sent in zip(phases, passes_sent(phases, kept.activations, kept.samples), strict=True)
    )
