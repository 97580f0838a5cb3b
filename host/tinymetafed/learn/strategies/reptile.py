"""Reptile and its kin: a device trains the whole network on all samples that it has."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase, SampleSet, Variant

from .interface import Strategy


class Reptile(Strategy):
    """Several devices train for several epochs; φ ← φ + α · mean(φ̂ − φ) (Nichol et al., arXiv 1803.02999)."""

    def training(self) -> tuple[Phase, ...]:
        """The whole network on the support set, then on the query set."""
        passes, rate = self.spec.global_passes, self.spec.global_learning_rate
        return tuple(self.phase(Variant.FULL, samples, passes, rate) for samples in (SampleSet.SUPPORT, SampleSet.QUERY))


class TinyReptile(Reptile):
    """Reptile of one device at a time, online (Ren et al., arXiv 2304.05201); ``run.devices_per_round`` is 1 by default."""


class FedAvg(Reptile):
    """The mean of the devices' weights (McMahan et al., arXiv 1602.05629): Reptile's step with α = 1.

    The paper weights devices by their number of samples; here every device trains on as many as any other.
    """
