"""The ``[privacy]`` section: what the server must not learn from a device's update."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..section import Section


class PrivacySpec(Section):
    """The keys of [privacy]: differential privacy of clients, and secure aggregation.

    ``clip``: every device scales its update down to at most this Euclidean norm; None: updates are not private. ``noise``: the
    noise multiplier; the noise in the sum of a round's updates has ``noise`` times ``clip`` as standard deviation, and each
    device adds its share. ``delta``: the δ for which ε is computed. ``public_seed``: devices draw their noise from this
    number instead of secret random bytes, the same on every machine; for tests only, as then nothing is private.

    ``secure_aggregation``: the server learns the sum of a round's updates, and no update of one device (Bonawitz et al. 2017).
    ``largest_change``: the largest change of a weight in a round that such an update reports without ``clip``; larger ones are
    cut to it.
    """

    clip: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] | None = None
    noise: Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(gt=0, le=0.1)] = 1e-5
    public_seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    secure_aggregation: bool = False
    largest_change: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 0.25

    @property
    def is_private(self) -> bool:
        """Whether devices clip their updates and add noise."""
        return self.clip is not None
