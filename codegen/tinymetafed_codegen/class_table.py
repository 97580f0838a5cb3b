"""A table of classes whose modules are imported when a class is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

Key = TypeVar("Key")
Class = TypeVar("Class")


class ClassTable(Mapping[Key, Class], Generic[Key, Class]):
    """Classes by key. An experiment uses few of them, and a short command takes most of its time to import modules."""

    def __init__(self, package: str, places: Mapping[Key, str]) -> None:
        """Makes a table.

        Args:
            package: The package of the modules.
            places: For each key ``MODULE.CLASS``.
        """
        self._package = package
        self._places = places

    def __getitem__(self, key: Key) -> Class:
        module, _, name = self._places[key].partition(".")
        return cast(Class, getattr(import_module(f"{self._package}.{module}"), name))

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
