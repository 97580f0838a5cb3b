"""The keys that all layers with weights have in an experiment file."""

from __future__ import annotations

from .layer import LayerSpec
from .op_registry import Activation


class WeightedSpec(LayerSpec):
    """The keys of a layer with weights. They are global unless ``local`` (never leave the device) or ``frozen`` (in flash)."""

    activation: Activation | None = None
    local: bool = False
    frozen: bool = False
