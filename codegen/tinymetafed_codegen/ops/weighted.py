"""What an experiment file says of a layer with weights."""

from __future__ import annotations

from .activations import Activation
from .layer import LayerSpec


class WeightedSpec(LayerSpec):
    """A layer with weights: global, unless they are ``local`` to a device or ``frozen`` into the firmware."""

    activation: Activation | None = None
    local: bool = False
    frozen: bool = False
