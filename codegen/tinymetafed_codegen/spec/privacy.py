"""The ``[privacy]`` section: what the server must not learn from a device's update."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..section import Section


class PrivacySpec(Section):
    """The keys of [privacy].

    ``secure_aggregation``: the server learns the sum of a round's updates, and no update of one device (Bonawitz et al. 2017).
    ``largest_change``: the largest change of a weight in a round that such an update reports; larger ones are clipped.
    """

    secure_aggregation: bool = False
    largest_change: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 0.25
