"""Turns pydantic's validation errors into messages for the author of the experiment file."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError

READABLE = "readable"  # the type of an error whose text is shown as it is
# One mistake can cause several errors: a mistyped key is both unknown and missing. The cause is shown.
_CAUSES_FIRST = {"extra_forbidden": 0, "missing": 2, "too_short": 3}


def explain(errors: ValidationError, sections: type[BaseModel]) -> str:
    """One message for a validation error.

    Args:
        errors: The errors of pydantic.
        sections: The class that was validated.

    Returns:
        The key, what is wrong with it, and what to do.
    """
    error: Any = min(errors.errors(), key=lambda each: _CAUSES_FIRST.get(each["type"], 1))
    key, owners = _walk(tuple(error["loc"]), sections)
    kind = error["type"]
    if kind == READABLE:
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
    if kind == "too_long":
        return f"'{key}' has {error['ctx']['actual_length']} entries, the most are {error['ctx']['max_length']}"
    return f"'{key}' = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _walk(location: tuple[Any, ...], sections: type[BaseModel]) -> tuple[str, list[type[BaseModel]]]:
    """The key as it is written in the file, and the classes that may have its last part."""
    key, owners = "", [sections]
    inside: list[_Member] = [(sections, ())]
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif chosen := [member for member in inside if len(inside) > 1 and part in member[1]]:
            inside = chosen  # pydantic adds the chosen union member to the path; the file does not have it
        else:
            key += f".{part}" if key else str(part)
            owners = [model for model, _ in inside]
            fields = {field.alias or name: field for owner in owners for name, field in owner.model_fields.items()}
            inside = _members(fields[part].annotation) if part in fields else []
    return key, owners


_Member = tuple[type[BaseModel], tuple[Any, ...]]  # a class that a field may hold, and the tags that select it in a union


def _members(annotation: Any, tags: tuple[Any, ...] = ()) -> list[_Member]:
    """All classes that a field may hold. The tags of a union are annotations of its members or the values of their ``kind``."""
    parts = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return [(annotation, tags or (get_args(kind.annotation) if kind else ()))]
    tags = tuple(part.tag for part in parts if isinstance(part, Tag)) or tags
    return [member for part in parts for member in _members(part, tags)]
