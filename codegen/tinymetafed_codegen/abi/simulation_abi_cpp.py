"""The text of simulation_abi.hpp: the arguments of the compiled simulation as C++ structs."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ..rendering import render
from . import simulation_abi


def simulation_abi_header(command: str) -> str:
    """The text of simulation_abi.hpp: the arguments of the compiled simulation as C++ structs."""
    return render(
        "simulation_abi.hpp.j2",
        source="codegen/tinymetafed_codegen/abi/simulation_abi.py",
        command=command,
        hash=f"0x{simulation_abi.abi_hash():016x}",
        hash_symbol=simulation_abi.HASH_SYMBOL,
        structs=[_abi_struct(struct) for struct in simulation_abi.STRUCTS],
        functions=[
            {
                "name": function.name,
                "doc": function.doc,
                "parameters": ", ".join(f"const tmf::sim::{struct.__name__}&" for struct in function.arguments),
            }
            for function in simulation_abi.FUNCTIONS
        ],
    )


@dataclass(frozen=True)
class _AbiField:
    """A field of a struct as C++ text, with its offset in bytes."""

    name: str
    type: str
    doc: str
    offset: int


@dataclass(frozen=True)
class _AbiStruct:
    """A struct of the simulation's ABI as C++ text, with its size in bytes."""

    name: str
    doc: str
    size: int
    fields: list[_AbiField]


def _abi_struct(struct: type[simulation_abi.Struct]) -> _AbiStruct:
    layout = struct.c_type()
    fields = [_AbiField(each.name, each.kind.cpp_type, each.doc, getattr(layout, each.name).offset) for each in struct.fields()]
    return _AbiStruct(struct.__name__, struct.__doc__ or "", ctypes.sizeof(layout), fields)
