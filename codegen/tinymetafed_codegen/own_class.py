"""Loads classes from a user's Python files, named as FILE.py:CLASS; errors name the file and the line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from .errors import UsageError

SEPARATOR = ":"  # a strategy kind or an op with a colon names a class of the user
_T = TypeVar("_T")


class OwnClassError(UsageError):
    """A user's class cannot be used; the text begins with the file and, where it is known, the line."""


def is_reference(name: object) -> bool:
    """Whether a value in an experiment file names a user's class."""
    return isinstance(name, str) and SEPARATOR in name


def load(reference: str, base: type[_T], base_name: str) -> type[_T]:
    """Loads the class that FILE.py:CLASS or MODULE:CLASS names.

    Args:
        reference: The file's path or the module's name, a colon, and the name of the class.
        base: The class that it must be derived from.
        base_name: What errors call the base: the name that users import it by.

    Raises:
        OwnClassError: The file cannot be run, has no such class, or the class is abstract or not derived from ``base``.
    """
    name, _, class_name = reference.rpartition(SEPARATOR)
    module = _module(name)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
        there = ", ".join(each.__name__ for each in classes) or "none"
        raise OwnClassError(f"{module.__file__}: has no class {class_name}; its classes are: {there}")
    return require(found, base, base_name)


def require(user_class: type, base: type[_T], base_name: str) -> type[_T]:
    """The class itself where it is derived from ``base`` and complete. Raises OwnClassError."""
    if not issubclass(user_class, base):
        raise OwnClassError(f"{place_of(user_class)}: {user_class.__name__} is not derived from {base_name}")
    if missing := sorted(getattr(user_class, "__abstractmethods__", ())):
        raise OwnClassError(f"{place_of(user_class)}: {user_class.__name__} lacks {', '.join(f'{name}()' for name in missing)}")
    return user_class


def file_of(user_class: type) -> Path:
    """The Python file in which a class is defined."""
    return Path(inspect.getfile(user_class))


def place_of(user_class: type) -> str:
    """FILE:LINE of the class statement."""
    try:
        return f"{file_of(user_class)}:{inspect.getsourcelines(user_class)[1]}"
    except OSError:  # the file was changed or removed after it was read
        return str(file_of(user_class))


def code_sha256(user_class: type) -> str:
    """SHA-256 of the Python file in which a class is defined, hexadecimal."""
    return hashlib.sha256(file_of(user_class).read_bytes()).hexdigest()


def explain(error: BaseException, file: str) -> str:
    """One line for an error raised by code in ``file``: FILE:LINE, the error's class and its text."""
    why = error.msg if isinstance(error, SyntaxError) and error.filename == file else str(error)
    return f"{place_in(error, file)}: {type(error).__name__}: {why}"


def explain_call(error: BaseException, user_class: type, what: str) -> str:
    """One line for an error raised in a call of a class of the user, which ``what`` names: the place, the error and the call.

    The place is the last line of the user's file that ran, or the class statement where none did.
    """
    file = str(file_of(user_class))
    line = explain(error, file)
    if place_in(error, file) == file:
        line = place_of(user_class) + line.removeprefix(file)
    return f"{line} (in {user_class.__name__}.{what})"


def place_in(error: BaseException, file: str) -> str:
    """FILE:LINE at which code in ``file`` failed; FILE alone where the error comes from elsewhere."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines = [error.lineno]
    return f"{file}:{lines[-1]}" if lines and lines[-1] else file


def _module(name: str) -> ModuleType:
    try:
        if name.endswith(".py"):
            return _executed(name, Path(name).read_bytes())
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        if isinstance(error, OSError) and error.filename == name:
            raise OwnClassError(f"{name}: cannot be read ({error.strerror})") from None
        raise OwnClassError(explain(error, name)) from None


@lru_cache
def _executed(name: str, content: bytes) -> ModuleType:
    """Runs a file once per content, so that all callers get the same classes."""
    digest = hashlib.sha256(name.encode() + content).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(f"own_{Path(name).stem}_{digest}", name)  # a name that no other module has
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pydantic look it up there
    exec(compile(content, name, "exec"), vars(module))  # not with spec.loader: its cache misses changes within one second
    return module
