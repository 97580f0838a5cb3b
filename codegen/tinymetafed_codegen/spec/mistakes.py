"""A validation error of pydantic's in the words of who wrote the file."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError

TOLD = "told"  # the type of an error whose text is for the file's reader already
# One mistake brings others in its wake (a mistyped key is unknown here and missing there): the cause comes first.
_CAUSES_FIRST = {"extra_forbidden": 0, "missing": 2, "too_short": 3}


def explain(errors: ValidationError, sections: type[BaseModel]) -> str:
    """What is wrong with which key, and the nearest remedy; ``sections`` is the class that was validated."""
    error: Any = min(errors.errors(), key=lambda each: _CAUSES_FIRST.get(each["type"], 1))
    key, owners = _walk(tuple(error["loc"]), sections)
    kind = error["type"]
    if kind == TOLD:
        return f"{key}: {error['msg']}"
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
    key, owners = "", [sections]
    inside: list[_Member] = [(sections, ())]
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif chosen := [member for member in inside if len(inside) > 1 and part in member[1]]:
            inside = chosen  # pydantic puts the chosen union member into the path; the file's reader never wrote it
        else:
            key += f".{part}" if key else str(part)
            owners = [model for model, _ in inside]
            fields = {field.alias or name: field for owner in owners for name, field in owner.model_fields.items()}
            inside = _members(fields[part].annotation) if part in fields else []
    return key, owners


_Member = tuple[type[BaseModel], tuple[Any, ...]]  # a section that a field may hold, and the tags that choose it in a union


def _members(annotation: Any, tags: tuple[Any, ...] = ()) -> list[_Member]:
    """All sections that a field may hold; a union's tags stand beside its members or are the values of their ``kind``."""
    parts = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return [(annotation, tags or (get_args(kind.annotation) if kind else ()))]
    tags = tuple(part.tag for part in parts if isinstance(part, Tag)) or tags
    return [member for part in parts for member in _members(part, tags)]
