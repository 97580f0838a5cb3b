"""The ``[data]`` section: how a model's input is normalised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..section import Section

Normalise = Literal["standard", "range", "none"]

_Shifts = Annotated[
    tuple[Annotated[float, Field(ge=-1e38, le=1e38)], ...], Field(min_length=1, max_length=65_536, strict=False)
]
_Scales = Annotated[
    tuple[Annotated[float, Field(ge=1e-30, le=1e30)], ...], Field(min_length=1, max_length=65_536, strict=False)
]


class DataSpec(Section):
    """The ``[data]`` section: the model gets (x - shift) * scale of each channel, the last axis of its input.

    ``normalise``: shift and scale of the meta-training clients: their mean and 1 / standard deviation (``standard``), their
    minimum and 1 / range (``range``), or the input stays as it is (``none``); None until an experiment is complete: the task's
    default. ``shift`` and ``scale`` are measured when a run begins, unless the file has them.
    """

    normalise: Normalise | None = None
    shift: _Shifts | None = None
    scale: _Scales | None = None

    @property
    def is_normalised(self) -> bool:
        """Whether the model begins with a normalisation."""
        return self.normalise not in (None, "none")

    @property
    def is_unmeasured(self) -> bool:
        """Whether the model begins with a normalisation whose numbers are not known yet."""
        return self.is_normalised and (self.shift is None or self.scale is None)
