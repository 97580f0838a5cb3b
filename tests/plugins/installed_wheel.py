"""An installed wheel in a virtual environment, as tests of plug-in points run it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WheelVenv:
    """A virtual environment with our wheel; ``variables`` are those of its processes, with a home of their own."""

    folder: Path
    variables: dict[str, str]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(self, cwd: Path, *command: object) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, by its name, in a folder."""
        program, *arguments = map(str, command)
        words = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(words, cwd=cwd, env=self.variables, capture_output=True, text=True, check=False)
