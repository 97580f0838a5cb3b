"""Reads Dockerfiles of the few instructions that ours have, and carries them out in folders instead of images."""

from __future__ import annotations

import fnmatch
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, and the rest as one line."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The rest in words, without options."""
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        """The value of --NAME=VALUE."""
        found = [word.partition("=")[2] for word in shlex.split(self.rest) if word.startswith(f"--{name}=")]
        return found[0] if found else None


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile. Raises ValueError for one that is not among those that are known."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in " \n".join(lines).replace("\\ \n", "").split("\n"):
        name, _, rest = line.strip().partition(" ")
        if name not in KNOWN:
            raise ValueError(f"an instruction that is not known: {name}")
        found.append(Instruction(name, rest.strip()))
    return found


def ignored(patterns: list[str], path: str) -> bool:
    """Whether a path of the build's context, relative to it, is left out by the lines of .dockerignore."""
    parts = path.split("/")
    for pattern in patterns:
        anywhere, plain = pattern.startswith("**/"), pattern.removeprefix("**/")
        for first in range(len(parts) if anywhere else 1):
            for last in range(first + 1, len(parts) + 1):
                if fnmatch.fnmatch("/".join(parts[first:last]), plain):
                    return True
    return False


def patterns(context: Path) -> list[str]:
    """The lines of a context's .dockerignore."""
    lines = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass
class Stage:
    """An image that is being built in a folder: its variables, user and working folder.

    ``machine``: variables that the machine gives to every command, as a build has proxies from it.
    """

    folder: Path
    machine: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    cwd: str = "/"

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in the image, as its user and in its folder, with mounts that end with it."""
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        home = {"HOME": "/root" if self.user == "root" else f"/home/{self.user}"}
        inside = f"cd {shlex.quote(self.cwd)} && {command}"
        root = shlex.quote(str(self.folder))
        become = "" if self.user == "root" else f"--userspec={self.user} "
        script = (
            f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "
            f"exec chroot {become}{root} /bin/sh -c {shlex.quote(inside)}"
        )
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]
        variables = self.machine | path | home | self.variables
        return subprocess.run(words, env=variables, capture_output=True, text=True, check=False)


def build(
    dockerfile: Path, context: Path, base: Path, work: Path, machine: dict[str, str]
) -> Iterator[tuple[Instruction, Stage, str]]:
    """Carries out a Dockerfile.

    Args:
        dockerfile: The Dockerfile.
        context: The folder that COPY takes from, with a .dockerignore.
        base: A folder with the content of the image that stages begin with.
        work: The folder for the stages.
        machine: Variables that the machine gives to every command.

    Yields:
        Each instruction after it was carried out, with its stage and what it printed.

    Raises:
        AssertionError: A command of RUN fails; the text has what it printed.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(work, machine)
    for step in instructions(dockerfile.read_text(encoding="utf-8")):
        said = ""
        if step.name == "FROM":
            name = step.words[-1] if " AS " in step.rest else "last"
            stage = stages[name] = Stage(work / name, machine)
            subprocess.run(["cp", "--archive", "--reflink=auto", base, stage.folder], check=True)
        elif step.name == "RUN":
            done = stage.run(step.rest)
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{step.rest}\n{said[-20000:]}"
        elif step.name == "COPY":
            source = step.option("from")
            _copy(step.words, context if source is None else stages[source].folder, stage, outside=source is None)
        elif step.name == "ENV":
            name, _, value = step.rest.partition("=")
            stage.variables[name] = value
        elif step.name == "USER":
            stage.user = step.rest
        elif step.name == "WORKDIR":
            stage.cwd = step.rest
            (stage.folder / step.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        yield step, stage, said


def _copy(words: list[str], root: Path, stage: Stage, outside: bool) -> None:
    source, target = words
    begin, end = root / source.lstrip("/"), stage.folder / target.lstrip("/")
    end.parent.mkdir(parents=True, exist_ok=True)
    if begin.is_file():
        shutil.copy2(begin, end)
        return
    left_out = patterns(root) if outside else []

    def leave(folder: str, names: list[str]) -> set[str]:
        below = Path(folder).relative_to(root)
        return {name for name in names if ignored(left_out, (below / name).as_posix())}

    shutil.copytree(begin, end, symlinks=True, ignore=leave, dirs_exist_ok=True)
