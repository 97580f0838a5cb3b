"""A validation error of pydantic's in the words of who wrote the file."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel

CAUSES_FIRST = {"extra_forbidden": 0, "missing": 2, "too_short": 3}
_DISCRIMINATORS = ("kind", "op")


def explain(error: Any, sections: type[BaseModel]) -> str:
    """What is wrong with which key, and the nearest remedy; ``sections`` is the experiment's class."""
    key, owners = _walk(tuple(error["loc"]), sections)
    kind = error["type"]
    if kind == "extra_forbidden":
        known = [field.alias or name for owner in owners for name, field in owner.model_fields.items()]
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if kind == "missing":
        return f"'{key}' is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        discriminator = str(error["ctx"]["discriminator"]).strip("'()")
        expected = error["ctx"].get("expected_tags", "").replace("'", "") or "one of the known kinds"
        given = error["ctx"].get("tag")
        near = difflib.get_close_matches(str(given), expected.split(", "), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        what = f"unknown value '{given}'" if given is not None else "is missing"
        return f"'{key}.{discriminator}' {what}; expected one of: {expected}{hint}"
    return f"'{key}' = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _walk(location: tuple[Any, ...], sections: type[BaseModel]) -> tuple[str, list[type[BaseModel]]]:
    """The key as the file has it, and the class in which its last part was looked for."""
    key, inside, owners = "", [sections], [sections]
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif chosen := [model for model in inside if len(inside) > 1 and part in _tags(model)]:
            inside = chosen  # pydantic puts the chosen union member into the path; the file's reader never wrote it
        else:
            key += f".{part}" if key else str(part)
            owners = inside
            fields = {field.alias or name: field for owner in owners for name, field in owner.model_fields.items()}
            inside = _models(fields[part].annotation) if part in fields else []
    return key, owners


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    if tag := getattr(model, "tag", None):
        return (tag,)
    return next((get_args(model.model_fields[name].annotation) for name in _DISCRIMINATORS if name in model.model_fields), ())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
