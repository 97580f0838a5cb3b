"""TinyMetaFed: devices reconstruct their local layers, train the global layers and send part of the delta."""

from __future__ import annotations

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Phase, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec, TinyMetaFedSpec

from .interface import Strategy


class TinyMetaFed(Strategy):
    """Partial local reconstruction and Top-P selection (Ren et al., arXiv 2307.06822, Algorithm 1)."""

    spec: TinyMetaFedSpec | OwnStrategySpec

    def __init__(self, experiment: Experiment, manifest: ModelManifest) -> None:
        super().__init__(experiment, manifest)
        assert isinstance(self.spec, TinyMetaFedSpec | OwnStrategySpec)

    def training(self) -> tuple[Phase, ...]:
        """Trains the local layers on the support set, then the global layers on the query set; the other layers stay fixed."""
        spec = self.spec
        return (
            self.phase(Variant.LOCAL, SampleSet.SUPPORT, spec.local_passes, spec.local_learning_rate),
            self.phase(Variant.GLOBAL, SampleSet.QUERY, spec.global_passes, spec.global_learning_rate),
        )
