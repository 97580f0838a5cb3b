"""FedSGD: the server takes a gradient step with the mean of the devices' gradients."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase, SampleSet, Variant

from .interface import Strategy


class FedSgd(Strategy):
    """w ← w − α η · mean of the devices' gradients at w (McMahan et al., arXiv 1602.05629, FederatedSGD).

    η is ``global_learning_rate``. A device's gradient is the mean over its samples, with ``output_clamp`` on each output error.
    The paper weights devices by their number of samples; here all devices have equal numbers.
    """

    def training(self) -> tuple[Phase, ...]:
        """The gradient of the whole network over support and query set; no weight changes."""
        passes, rate = self.spec.global_passes, self.spec.global_learning_rate
        return tuple(self.phase(Variant.GRADIENT, samples, passes, rate) for samples in (SampleSet.SUPPORT, SampleSet.QUERY))
