"""Reptile, TinyReptile and FedAvg: a device trains the whole network on all its samples."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase, SampleSet, Variant

from .interface import Strategy


class Reptile(Strategy):
    """Several devices train for several passes; φ ← φ + α · mean(φ̂ − φ) (Nichol et al., arXiv 1803.02999)."""

    def training(self) -> tuple[Phase, ...]:
        """The whole network on the support set, then on the query set."""
        passes, rate = self.spec.global_passes, self.spec.global_learning_rate
        return tuple(self.phase(Variant.FULL, samples, passes, rate) for samples in (SampleSet.SUPPORT, SampleSet.QUERY))


class TinyReptile(Reptile):
    """Reptile with one device per round (the default) and online training (Ren et al., arXiv 2304.05201)."""


class FedAvg(Reptile):
    """The mean of the devices' weights (McMahan et al., arXiv 1602.05629): Reptile's step with α = 1.

    The paper weights devices by their number of samples; here all devices have equal numbers.
    """
