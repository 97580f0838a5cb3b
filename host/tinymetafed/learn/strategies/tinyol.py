"""TinyOL: every device trains alone, without a server."""

from __future__ import annotations

from tinymetafed_codegen.protocol import Phase

from .interface import Strategy


class TinyOl(Strategy):
    """A device trains its ``local`` layers online from the weights it was flashed with (Ren et al., arXiv 2103.08295).

    There are no rounds; by default a client trains one pass over its samples. The device scales its inputs by their running
    mean and variance, as in the paper, with ``data.normalise = "running"``.
    """

    def training(self) -> tuple[Phase, ...]:
        """No phases: devices do not train in rounds."""
        return ()
