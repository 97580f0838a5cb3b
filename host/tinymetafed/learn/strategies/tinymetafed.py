"""TinyMetaFed: what is local is rebuilt on every device, what is global is updated and travels in part."""

from __future__ import annotations

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Phase, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment, OwnStrategySpec, TinyMetaFedSpec

from .interface import Strategy


class TinyMetaFed(Strategy):
    """Partial local reconstruction and Top-P% communication (Ren et al., arXiv 2307.06822, Algorithm 1)."""

    spec: TinyMetaFedSpec | OwnStrategySpec

    def __init__(self, experiment: Experiment, manifest: ModelManifest) -> None:
        super().__init__(experiment, manifest)
        assert isinstance(self.spec, TinyMetaFedSpec | OwnStrategySpec)

    def training(self) -> tuple[Phase, ...]:
        """Reconstructs l on the support set with g held, then updates g on the query set with l held."""
        spec = self.spec
        return (
            self.phase(Variant.LOCAL, SampleSet.SUPPORT, spec.local_passes, spec.local_learning_rate),
            self.phase(Variant.GLOBAL, SampleSet.QUERY, spec.global_passes, spec.global_learning_rate),
        )
