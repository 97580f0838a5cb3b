"""What a board needs on this machine to be built and run, and how to install it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """Something that a board needs on this machine: a command, or a library that the compiler must find.

    It is in the Debian ``package``, or on the page ``download``. ``to_build``: it is needed to build, not only to run.
    """

    name: str
    is_command: bool
    purpose: str
    package: str | None
    download: str | None
    to_build: bool


def remedy(needs: Sequence[Requirement]) -> str:
    """How to install all of them, for a message."""
    packages = " ".join(dict.fromkeys(need.package for need in needs if need.package is not None))
    steps = [_install(packages)] if packages else []
    steps += [f"put `{need.name}` on the PATH, from {need.download}" for need in needs if need.download is not None]
    return "; ".join(steps)


def _install(packages: str) -> str:
    """How to install Debian's packages, or on another system what they have."""
    if sys.platform == "win32":
        return "install g++ of MinGW-w64 (winlibs or MSYS2) and put it on the PATH; emulated boards need Linux, macOS or WSL"
    if sys.platform == "darwin":
        return f"`xcode-select --install` for g++; Homebrew or MacPorts for what Debian has in {packages}"
    return f"`sudo apt install {packages}`"


def missing_message(needs: Sequence[Requirement]) -> str:
    """The message that they are missing: what each is for, and how to install it."""
    return f"missing {', '.join(f'{need.name} ({need.purpose})' for need in needs)}; {remedy(needs)}"


def compiler_finds(compiler: str, library: str) -> bool:
    """Whether the C++ compiler at this path has a library of this file name."""
    answer = subprocess.run([compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() != library  # GCC prints the name itself if it does not find the library
