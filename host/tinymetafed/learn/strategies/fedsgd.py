"""FedSGD: stochastic gradient descent whose gradient comes from several devices."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase, SampleSet, Variant

from .interface import Strategy


class FedSgd(Strategy):
    """w ← w − α η · mean of the devices' gradients at w (McMahan et al., arXiv 1602.05629, FederatedSGD).

    η is ``global_learning_rate``; a device's gradient is the mean over its samples, each one's output error clamped as asked.
    The paper weights devices by their number of samples; here every device has as many as any other.
    """

    def training(self) -> tuple[Phase, ...]:
        """The gradient of the whole network over support and query set, with all weights held."""
        passes, rate = self.spec.global_passes, self.spec.global_learning_rate
        return tuple(self.phase(Variant.GRADIENT, samples, passes, rate) for samples in (SampleSet.SUPPORT, SampleSet.QUERY))
