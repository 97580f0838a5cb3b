"""The update rule: stochastic gradient descent, plain unless the model asks for momentum or weight decay."""

from __future__ import annotations

from dataclasses import dataclass

from .base import float_bits


@dataclass(frozen=True)
class Sgd:
    """How a weight follows its gradient; with momentum every weight has a velocity, kept behind all weights."""

    momentum: float
    weight_decay: float

    def kernel(self) -> str:
        """The C++ type that backward kernels take as their Update."""
        if not self.momentum and not self.weight_decay:
            return "kernels::Sgd<>"
        decay, momentum = float_bits(self.weight_decay), float_bits(self.momentum)
        velocity = "kParameterCount" if self.momentum else "0"
        return f"kernels::Sgd</*weight_decay=*/{decay}, /*momentum=*/{momentum}, /*velocity=*/{velocity}>"

    def accumulating_kernel(self) -> str:
        """The C++ type that takes its place where gradients are summed up and weights stay."""
        decay = f"/*weight_decay=*/{float_bits(self.weight_decay) if self.weight_decay else '0'}"
        return f"kernels::Accumulate<{decay}, /*sum=*/kParameterCount>"

    @property
    def formula(self) -> str:
        """One line for comments."""
        decayed = f"rate (gradient + {self.weight_decay!r} w)" if self.weight_decay else "rate gradient"
        return f"v <- {self.momentum!r} v + {decayed}; w <- w - v" if self.momentum else f"w <- w - {decayed}"
