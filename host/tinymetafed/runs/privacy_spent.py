"""The privacy that the clients of a run have left, as a typed value of the journal."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.section import StrictJson


@dataclass(frozen=True)
class PrivacySpent(StrictJson):
    """The privacy that the clients of a run have left, as (ε, δ) for each client.

    ``epsilon``: for those who have the weights of every round and all that was computed from them. ``host_epsilon``: for the
    host, which sees each update. None: there is no bound, or ``note`` says why it is not known. ``rounds``: the most that a
    client has taken part in. ``noise_multiplier``, ``host_noise_multiplier``: of all of these together, noise by largest norm;
    None if no round is done. ``sampling``: the amplification that is counted.
    """

    delta: float
    epsilon: float | None
    host_epsilon: float | None
    rounds: int
    noise_multiplier: float | None
    host_noise_multiplier: float | None
    sampling: str
    note: str

    @property
    def text(self) -> str:
        """The result in words, one line."""
        if self.epsilon is None and self.note:
            return self.note
        host = "no bound" if self.host_epsilon is None else f"{self.host_epsilon:.3g}"
        model = "no bound" if self.epsilon is None else f"ε = {self.epsilon:.3g}"
        remark = f"; {self.note}" if self.note else ""
        return f"{model} at δ = {self.delta:g} for each client; for the host, which sees each update: {host}{remark}"
