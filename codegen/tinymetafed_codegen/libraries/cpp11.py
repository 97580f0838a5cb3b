"""Rewrites the core's C++17 as C++11, for exported libraries: Arduino's cores choose older versions of the language."""

from __future__ import annotations

import re

from ..cpp_literals import float_literal

_NAMESPACE = re.compile(r"^namespace ([\w:]+::\w+) \{$", re.MULTILINE)
_END = re.compile(r"^\}  // namespace ([\w:]+::\w+)$", re.MULTILINE)
_HEXADECIMAL = re.compile(r"\b0x[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?p[+-]?\d+f\b")

_TEMPLATE_ARGUMENTS = re.compile(r"<[^<>()=;]*>")
_REST = re.compile(r"(?<=[<,\s])(k\w+ % (k\w+))(?=[,>])")


def lowered(text: str) -> str:
    """The same C++ without what only C++17 has; the compiled code computes the same.

    ``if constexpr`` becomes ``if``, so all of its branches must compile: the last tile of ``kSize % kTile`` values, which is
    left out where nothing is left, gets a size that is never 0. Hexadecimal floats become decimal ones that read back
    as the same float32. ``std::memcpy`` becomes the compiler's own, as C++ headers are missing on some boards.
    """
    text = _NAMESPACE.sub(lambda found: " { ".join(f"namespace {part}" for part in found[1].split("::")) + " {", text)
    text = _END.sub(lambda found: "}" * (found[1].count("::") + 1) + f"  // namespace {found[1]}", text)
    text = _HEXADECIMAL.sub(lambda found: float_literal(float.fromhex(found[0].removesuffix("f"))), text)
    text = _TEMPLATE_ARGUMENTS.sub(lambda found: _REST.sub(r"(\1 != 0 ? \1 : \2)", found[0]), text)
    for newer, older in (
        ("inline constexpr ", "constexpr "),
        ("if constexpr (", "if ("),
        ("std::memcpy(", "__builtin_memcpy("),
        ("[[nodiscard]] ", ""),
    ):
        text = text.replace(newer, older)
    return text
