"""The update rule: stochastic gradient descent, with momentum and weight decay where the model has them."""

from __future__ import annotations

from dataclasses import dataclass

from .op import float_bits


@dataclass(frozen=True)
class Sgd:
    """SGD. With momentum each weight has a velocity; the velocities lie behind all weights in memory."""

    momentum: float
    weight_decay: float

    def cpp_type(self) -> str:
        """The C++ type that backward kernels take as their template argument Update."""
        if not self.momentum and not self.weight_decay:
            return "kernels::Sgd<>"
        decay, momentum = float_bits(self.weight_decay), float_bits(self.momentum)
        velocity = "kParameterCount" if self.momentum else "0"
        return f"kernels::Sgd</*weight_decay=*/{decay}, /*momentum=*/{momentum}, /*velocity=*/{velocity}>"

    def accumulating_cpp_type(self) -> str:
        """The C++ type that replaces it where gradients are summed and the weights do not change."""
        decay = f"/*weight_decay=*/{float_bits(self.weight_decay) if self.weight_decay else '0'}"
        return f"kernels::Accumulate<{decay}, /*sum=*/kParameterCount>"

    @property
    def formula(self) -> str:
        """The rule as one line, for comments."""
        decayed = f"rate (gradient + {self.weight_decay!r} w)" if self.weight_decay else "rate gradient"
        return f"v <- {self.momentum!r} v + {decayed}; w <- w - v" if self.momentum else f"w <- w - {decayed}"
