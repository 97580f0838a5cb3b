"""Ops of the user: a class in the user's Python file, with its kernels in a C++ header beside that file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from .. import own_class
from ..own_class import OwnClassError
from .layer import NAME, LayerSpec
from .op import Op, OpError, Parameter, Shape
from .op_registry import LAYERS

_WEIGHTLESS, _WEIGHTED = "weightless.hpp.j2", "weighted.hpp.j2"
_READS = ("", "x", "y", "xy")


def load(reference: str) -> type[Op]:
    """Loads a user's op.

    Args:
        reference: FILE.py:CLASS.

    Returns:
        The class, with all its attributes checked.

    Raises:
        OwnClassError: The class cannot be used; the text begins with its file and line.
    """
    op = own_class.load(reference, Op, "tinymetafed_codegen.ops.Op")
    kind, keys = getattr(op, "kind", None), getattr(op, "spec", None)
    if not isinstance(kind, str) or not re.fullmatch(NAME, kind):
        _refuse(op, f"kind is {kind!r}, expected a name of lower-case letters, digits and underscores")
    if kind in LAYERS:
        _refuse(op, f"kind = '{kind}' is the name of a built-in op; choose another one")
    if not isinstance(keys, type) or not issubclass(keys, LayerSpec):
        _refuse(op, f"spec is {keys!r}, expected a class derived from LayerSpec with the keys of a layer")
    if not (isinstance(op.flash_bytes, tuple) and all(type(size) is int and size >= 0 for size in op.flash_bytes)):
        _refuse(op, f"flash_bytes is {op.flash_bytes!r}, expected a tuple of the bytes of forward, input gradient and update")
    if not op.is_view:
        _check_kernels(op)
    return op


def is_own(op: type[Op]) -> bool:
    """Whether an op is the user's, not a built-in one."""
    return not op.__module__.startswith(f"{__package__}.")


def header(op: type[Op]) -> Path | None:
    """The C++ file with the kernels of a user's op; None where it uses kernels of firmware/core."""
    definer = next(each for each in op.__mro__ if "header" in vars(each))
    return own_class.file_of(definer).parent / op.header if is_own(definer) else None


def files(op: type[Op]) -> list[Path]:
    """The files of a user's op: its Python file, and its C++ header where it has one."""
    kernels = header(op)
    return [own_class.file_of(op), *([] if kernels is None else [kernels])]


def layer(op: type[Op], keys: LayerSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
    """Calls ``Op.layer`` of a user's op and checks the result. Raises OpError, which names the user's file and line."""
    made = _call(op, "build", lambda: op.layer(keys, name, input_shape, below))
    if not isinstance(made, list) or not made or not all(isinstance(each, Op) for each in made):
        raise OpError(f"{own_class.place_of(op)}: {op.__name__}.build() gives {made!r}, expected an op")
    for each in made:
        _check_made(op, each)
    return made


def _check_kernels(op: type[Op]) -> None:
    if op.template not in (_WEIGHTLESS, _WEIGHTED):
        _refuse(op, f"template is {op.template!r}, expected {_WEIGHTLESS!r} or {_WEIGHTED!r}")
    if not isinstance(op.header, str) or not op.header:
        _refuse(op, "header is missing; it names the C++ file with the op's kernels")
    file = header(op)
    if file is not None and not file.is_file():
        _refuse(op, f"header = '{op.header}': {file} is not a file")
    if file is not None and set('"\\\n') & set(file.as_posix()):
        _refuse(op, f"header: C++ cannot include {file}; choose a path without quotes and backslashes")


def _check_made(op: type[Op], made: Op) -> None:
    def expect(what: str, value: object, fits: bool, expected: str) -> None:
        if not fits:
            raise OpError(f"{own_class.place_of(op)}: {op.__name__}: {what} is {value!r}, expected {expected}")

    shape = made.output_shape
    whole = isinstance(shape, tuple) and len(shape) > 0 and all(type(extent) is int and extent > 0 for extent in shape)
    expect("output_shape", shape, whole, "a tuple of whole numbers, each at least 1")
    weights = isinstance(made.parameters, tuple) and all(isinstance(each, Parameter) for each in made.parameters)
    expect("parameters", made.parameters, weights, "a tuple of Parameter")
    if made.is_view:
        return
    cpp_type = _call(op, "cpp_type", made.cpp_type)
    expect("cpp_type()", cpp_type, isinstance(cpp_type, str) and bool(cpp_type), "the C++ type of its kernels")
    reads = _call(op, "backward_reads", made.backward_reads)
    expect("backward_reads()", reads, reads in _READS, f"one of {', '.join(map(repr, _READS))}")
    same_size = math.prod(made.input_shape) == math.prod(shape)
    expect(
        "in_place",
        made.in_place,
        same_size or not made.in_place,
        f"False, because {list(made.input_shape)} and {list(shape)} differ in size",
    )
    weighted = made.template == _WEIGHTED
    expect("template", made.template, weighted == bool(made.parameters), f"{_WEIGHTED!r} with weights, {_WEIGHTLESS!r} without")
    expect("backward_reads()", reads, "x" in str(reads) or not weighted, "'x' or 'xy', because a backward with weights reads x")


def _call(op: type[Op], method: str, call: Callable[[], object]) -> object:
    try:
        return call()
    except OpError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise OpError(own_class.explain_call(error, op, f"{method}()")) from error


def _refuse(op: type[Op], why: str) -> NoReturn:
    raise OwnClassError(f"{own_class.place_of(op)}: {op.__name__}: {why}")
