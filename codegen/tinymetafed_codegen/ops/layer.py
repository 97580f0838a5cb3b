"""What an experiment file says of any layer; every op adds the keys that are its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..section import Section

NAME = r"^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$"  # of layers and ops: they become names of C++
Name = Annotated[str, Field(pattern=NAME, max_length=40)]


class LayerSpec(Section):
    """Any layer; an add finds it by its ``name``, or else by its op and its place from 1 on (dense3)."""

    op: str
    name: Name | None = None
