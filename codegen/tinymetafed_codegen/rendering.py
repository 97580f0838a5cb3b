"""Renders templates; the only module that makes environments of jinja2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from .files import own_folder
from .toolchain import BuildError, build_root

_TEMPLATES = Path(__file__).parent / "templates"


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Templates that are compiled once for all commands; a file that cannot be read or written costs the time of compiling."""

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        try:
            super().load_bytecode(bucket)
        except Exception:  # whatever reading a damaged file may raise
            bucket.reset()

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


def render(template: str, **context: Any) -> str:
    """Renders one template; a name that is missing in the context is an error."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> jinja2.Environment:
    return environment([_TEMPLATES])


def environment(folders: Sequence[Path], *, html: bool = False) -> jinja2.Environment:
    """The templates in some folders; a name that is missing in a template's context is an error.

    Args:
        folders: The folders; the first that has a template counts.
        html: Whether they are pages, in which values are escaped, or else texts that end with a line end.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
        bytecode_cache=_compiled("html" if html else "text"),
    )


def _compiled(kind: str) -> _Compiled | None:
    """None where this user has no folder for builds, or another user has made that of templates: they are code.

    A file is for one Python and one jinja2, whose next version may need other code.
    """
    made_by = f"{sys.implementation.cache_tag}-{getattr(jinja2, '__version__', '')}"
    with suppress(BuildError, OSError):
        folder = build_root() / "templates"
        folder.mkdir(parents=True, exist_ok=True)
        if own_folder(folder) == folder:
            return _Compiled(str(folder), f"%s.{kind}-{made_by}")
    return None
