"""TinyOL: no server; every device for itself."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase

from .interface import Strategy


class TinyOl(Strategy):
    """A device trains its ``local`` layers online from the weights it was flashed with (Ren et al., arXiv 2103.08295).

    It takes no rounds; by default a new client sees each of its samples once. Inputs are scaled by the task.
    """

    def training(self) -> tuple[Phase, ...]:
        """Nothing."""
        return ()
