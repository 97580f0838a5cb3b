"""The keys that all layers of an experiment file have; each op adds its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..section import Section

NAME = r"^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$"  # of layers and ops; they become C++ names
INPUT = "input"  # names the model's input where a layer names another one that it reads
Name = Annotated[str, Field(pattern=NAME, max_length=40)]


class LayerSpec(Section):
    """The keys of every layer.

    Without a ``name`` the layer is called by its op and its number, counted from 1: dense3. ``from`` names a layer above it,
    or INPUT, that it reads instead of the layer before it: a branch begins there.
    """

    op: str
    name: Name | None = None
    from_: Annotated[str | None, Field(alias="from")] = None
