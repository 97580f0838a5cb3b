"""The phases of [adaptation]: what a new client trains, whether the host asks for it or the board does it by itself."""

from __future__ import annotations

from ..protocol import Phase, SampleSet, Variant
from ..spec import Experiment


def phases(experiment: Experiment, count: int) -> tuple[Phase, ...]:
    """First the local layers, then the whole model, with the passes and learning rates of [adaptation].

    Args:
        experiment: The experiment.
        count: Number of ADAPT samples, over all classes.

    Returns:
        Up to two phases; those without passes or samples are left out.
    """
    spec, clamp = experiment.adaptation, experiment.strategy.output_clamp
    both = (
        Phase(Variant.LOCAL, SampleSet.ADAPT, count, spec.local_passes, spec.local_learning_rate, clamp),
        Phase(Variant.FULL, SampleSet.ADAPT, count, spec.full_passes, spec.full_learning_rate, clamp),
    )
    return tuple(phase for phase in both if phase.passes and phase.count)
