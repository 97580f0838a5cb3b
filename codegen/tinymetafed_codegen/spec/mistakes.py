"""Turns pydantic's validation errors into messages for the author of the experiment file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

READABLE = "readable"  # the type of an error whose text is shown as it is
# One mistake can cause several errors: a mistyped key is both unknown and missing. The cause is shown.
# A key may take values of several types: an error in a value of one of them is shown before those of the wrong types.
_CAUSES_FIRST = {"extra_forbidden": 0, "missing": 2, "too_short": 3, "string_type": 4, "int_type": 4, "tuple_type": 5}


@dataclass(frozen=True)
class Choice:
    """Marks a field whose own validator chooses a class; ``union`` makes the union of all of them, for messages."""

    union: Callable[[], Any]


def explain(errors: ValidationError, sections: type[BaseModel]) -> str:
    """One message for a validation error.

    Args:
        errors: The errors of pydantic.
        sections: The class that was validated.

    Returns:
        The key, what is wrong with it, and what to do.
    """
    error: Any = min(errors.errors(), key=lambda each: _CAUSES_FIRST.get(each["type"], 1))
    key, owners, inside = _walk(tuple(error["loc"]), sections)
    kind = error["type"]
    if kind == READABLE:
        return f"{key}: {error['msg']}"
    if kind == "extra_forbidden":
        return f"unknown key '{key}'; {_hint(str(error['loc'][-1]), key, owners, sections)}"
    if kind == "missing":
        return f"'{key}' is missing"
    if kind in ("model_type", "dict_type") or (kind == "union_tag_not_found" and not isinstance(error["input"], dict)):
        return f"'{key}' = {error['input']!r}: expected keys with values, {_table(key)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_tag(key, error, [tag for _, tags in inside for tag in tags])
    if kind in ("tuple_type", "list_type"):
        return f"'{key}' = {error['input']!r}: expected a list, as in {key.rpartition('.')[2]} = [{error['input']!r}]"
    if kind == "too_short":
        fewest = error["ctx"]["min_length"]
        return f"'{key}' = {error['input']!r}: expected {fewest} {'entry' if fewest == 1 else 'entries'} or more"
    if kind == "too_long":
        return f"'{key}' has {error['ctx']['actual_length']} entries, expected at most {error['ctx']['max_length']}"
    return f"'{key}' = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _table(key: str) -> str:
    """How a table is written whose key is this one."""
    return "as in { op = 'dense', units = 8 }" if key.endswith("]") else f"below a line [{key}]"


def _unknown_tag(key: str, error: Any, expected: Sequence[str]) -> str:
    """What is wrong with the value that chooses a section's or layer's class, such as task.kind."""
    tag = str(error["ctx"]["discriminator"]).strip("'()")
    if tag not in error["input"]:
        return f"'{key}.{tag}' is missing; expected one of: {', '.join(expected)}"
    given = error["input"][tag]
    near = difflib.get_close_matches(given, expected, n=1) if isinstance(given, str) else []
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"'{key}.{tag}' unknown value {given!r}; expected one of: {', '.join(expected)}{hint}"


_SURE = 0.85  # a key of another section is suggested if its name is at least so similar


def _hint(name: str, key: str, owners: Sequence[type[BaseModel]], sections: type[BaseModel]) -> str:
    """What the author of an unknown key probably meant: a key of this section, or one of another section or kind."""
    here = [field.alias or known for owner in owners for known, field in owner.model_fields.items()]
    places = list(_places(sections))
    same = [place for place in places if place.name == name]
    if kinds := list(dict.fromkeys(place.kind for place in same if place.kind and place.path == _INDEX.sub(".N", key))):
        return f"it is a key of {' and of '.join(kinds)}"
    (near, likeness), (far, surety) = (_nearest(name, known) for known in (here, [place.name for place in places]))
    if same or (surety >= _SURE and surety > likeness):
        meant = list(dict.fromkeys(place.path for place in places if place.name == (name if same else far)))
        numbered = ", N being the layer's number from 0" if any(".N." in path for path in meant) else ""
        return f"did you mean {' or '.join(repr(path) for path in meant)}{numbered}?"
    return f"did you mean '{near}'?" if likeness >= 0.5 else f"known here: {', '.join(here)}"


def _nearest(name: str, known: Sequence[str]) -> tuple[str, float]:
    """The most similar of some names, and how similar it is, from 0 to 1."""
    likeness = {each: difflib.SequenceMatcher(None, each, name).ratio() for each in known}
    return max(likeness.items(), key=lambda pair: pair[1], default=("", 0.0))


_INDEX = re.compile(r"\[\d+\]")


class _Place(NamedTuple):
    """A key of an experiment: its path, with N for a number in a list, and the kind of section that has it, if any."""

    name: str
    path: str
    kind: str


def _places(section: type[BaseModel], path: str = "", kind: str = "") -> Iterator[_Place]:
    """All keys below a section."""
    for attribute, field in section.model_fields.items():
        name = field.alias or attribute
        yield _Place(name, path + name, kind)
        below = f"{path}{name}.N." if get_origin(field.annotation) in (tuple, list) else f"{path}{name}."
        members = _members(field.annotation)
        for member, tags in members:
            tagged = len(members) > 1 and tags and ("op" if "op" in member.model_fields else f"{path}{name}.kind")
            yield from _places(member, below, f"{tagged} = '{tags[0]}'" if tagged else "")


_Member = tuple[type[BaseModel], tuple[Any, ...]]  # a class that a field may hold, and the tags that select it in a union


def _walk(location: tuple[Any, ...], sections: type[BaseModel]) -> tuple[str, list[type[BaseModel]], list[_Member]]:
    """The key as it is written in the file, the classes that may have its last part, and those that its value may be of."""
    key, owners = "", [sections]
    inside: list[_Member] = [(sections, ())]
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif chosen := [member for member in inside if len(inside) > 1 and part in member[1]]:
            inside = chosen  # pydantic adds the chosen union member to the path; the file does not have it
        elif inside:  # where a key takes several types, pydantic adds the name of one to the path; it is left out
            key += f".{part}" if key else str(part)
            owners = [model for model, _ in inside]
            fields = {field.alias or name: field for owner in owners for name, field in owner.model_fields.items()}
            inside = _members(fields[part].annotation) if part in fields else []
    return key, owners, inside


def _members(annotation: Any, tags: tuple[Any, ...] = ()) -> list[_Member]:
    """All classes that a field may hold. The tags of a union are annotations of its members or the values of their ``kind``."""
    parts = get_args(annotation)
    for part in parts:
        if isinstance(part, Choice):
            return _members(part.union(), tags)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return [(annotation, tags or (get_args(kind.annotation) if kind else ()))]
    tags = tuple(part.tag for part in parts if isinstance(part, Tag)) or tags
    return [member for part in parts for member in _members(part, tags)]
