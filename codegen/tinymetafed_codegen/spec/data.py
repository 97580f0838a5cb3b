"""The ``[data]`` section: how a model's input is normalised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..section import Section

Normalise = Literal["standard", "range", "running", "none"]
START_COUNT, LARGEST_COUNT = 10, 1 << 16  # samples

_Shifts = Annotated[
    tuple[Annotated[float, Field(ge=-1e38, le=1e38)], ...], Field(min_length=1, max_length=65_536, strict=False)
]
_Scales = Annotated[
    tuple[Annotated[float, Field(ge=1e-30, le=1e30)], ...], Field(min_length=1, max_length=65_536, strict=False)
]
_Count = Annotated[int, Field(ge=1, le=1 << 20)]


class DataSpec(Section):
    """The ``[data]`` section: the model gets (x - shift) * scale of each channel, the last axis of its input.

    ``normalise``: shift and scale of the meta-training clients: their mean and 1 / standard deviation (``standard``), their
    minimum and 1 / range (``range``); mean and standard deviation of the board's own inputs so far (``running``); or the input
    stays as it is (``none``); None until an experiment is complete: the task's default. ``shift`` and ``scale`` are measured
    when a run begins, unless the file has them; for ``running`` they are where boards start, and count as ``start_count``
    samples. ``largest_count``: after so many samples a board's older ones count exponentially less.
    """

    normalise: Normalise | None = None
    shift: _Shifts | None = None
    scale: _Scales | None = None
    start_count: _Count | None = None
    largest_count: _Count | None = None

    @property
    def is_normalised(self) -> bool:
        """Whether the model begins with a normalisation."""
        return self.normalise not in (None, "none")

    @property
    def is_running(self) -> bool:
        """Whether boards measure their own inputs."""
        return self.normalise == "running"

    @property
    def is_unmeasured(self) -> bool:
        """Whether the model begins with a normalisation whose numbers the host has to measure and has not yet."""
        return self.is_normalised and not self.is_running and (self.shift is None or self.scale is None)

    @property
    def running_note(self) -> str:
        """One line that says what ``running`` does on a board; "" for any other normalisation."""
        if not self.is_running:
            return ""
        start = "mean 0 and variance 1"
        if self.shift is not None:
            start = f"data.shift and data.scale, which count as {self.counted_from:,} sample{'s' * (self.counted_from != 1)}"
        return (
            "each board normalises its input by the mean and variance of its own samples so far (data.normalise = 'running'): "
            f"they begin with {start}, follow every step that trains local layers, and never leave the board"
        )

    @property
    def counted_from(self) -> int:
        """The samples that a board's statistics count as before its first one."""
        return 0 if self.shift is None else self.start_count or START_COUNT

    @property
    def counted_to(self) -> int:
        """The largest number of samples that a board's statistics count as."""
        return self.largest_count or LARGEST_COUNT
