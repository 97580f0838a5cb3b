"""The command under test: its short runs, its results, and the JSON object that it prints."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("tinymetafed")
SHORT = ("--set", "run.rounds=5", "--set", "evaluation.tasks=3", "--set", "evaluation.every=0", "--test-device", "native:1")


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error's text. Asserts that it is one error, without traceback, and that standard output is empty."""
        assert "Traceback" not in self.err and self.out == "", self
        assert self.code in (1, 2) and self.err.count("Error:") == 1, self
        return " ".join(self.err.split())


Command = Callable[..., CommandResult]


def json_object(said: CommandResult) -> dict[str, Any]:
    """The JSON object on standard output, which must hold nothing else."""
    assert said.code == 0, said
    found = json.loads(said.out)
    assert isinstance(found, dict)
    assert said.out.count("\n") <= 1
    return found
