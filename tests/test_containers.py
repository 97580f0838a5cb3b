"""The images' Dockerfiles and the development container: known instructions, Debian and PyPI alone, files that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from dockerfile import ignored, instructions, patterns

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import root

DOCKERFILES = [root() / "Dockerfile", root() / ".devcontainer" / "Dockerfile"]
each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(root())))


@each
def test_only_debian_and_pypi_are_asked(dockerfile: Path) -> None:
    text = dockerfile.read_text(encoding="utf-8")
    assert {step.words[0] for step in instructions(text) if step.name == "FROM"} == {"debian:bookworm-slim"}
    assert "://" not in text and not re.search(r"\b(curl|wget|git clone|ADD|npm|pip install [a-z])\b", text)


@each
def test_what_is_copied_exists_and_is_not_ignored(dockerfile: Path) -> None:
    copied = [step for step in instructions(dockerfile.read_text(encoding="utf-8")) if step.name == "COPY"]
    assert copied
    for step in copied:
        if step.option("from") is None:
            source = step.words[0]
            assert (root() / source).exists() and (source == "." or not ignored(patterns(root()), source))


@each
def test_packages_of_boards_are_named_in_their_files_alone(dockerfile: Path) -> None:
    named = {tool.package for name in boards.names() for tool in boards.load(name).requirements if tool.package is not None}
    assert {"g++", "qemu-system-arm", "gcc-riscv64-unknown-elf"} <= named
    installs = [step.rest for step in instructions(dockerfile.read_text(encoding="utf-8")) if step.name == "RUN"]
    assert not named & {word for rest in installs for word in shlex.split(rest)}
    assert sum("setup.py packages" in rest for rest in installs) == 1


@each
def test_the_image_works_as_a_user_without_rights(dockerfile: Path) -> None:
    users = [step.rest for step in instructions(dockerfile.read_text(encoding="utf-8")) if step.name == "USER"]
    assert users == ["learner"]


def test_the_image_checks_itself_and_is_the_command() -> None:
    steps = instructions((root() / "Dockerfile").read_text(encoding="utf-8"))
    assert "tinymetafed doctor" in [step.rest for step in steps if step.name == "RUN"]
    assert [json.loads(step.rest) for step in steps if step.name in ("ENTRYPOINT", "CMD")] == [["tinymetafed"], ["--help"]]


def test_the_development_container_refers_to_files_that_exist() -> None:
    described = json.loads((root() / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    folder = root() / ".devcontainer"
    assert (folder / described["build"]["dockerfile"]).is_file()
    assert (folder / described["build"]["context"]).resolve() == root()
    steps = instructions((folder / "Dockerfile").read_text(encoding="utf-8"))
    assert [step.rest for step in steps if step.name == "USER"] == [described["remoteUser"]]
    assert described["postCreateCommand"] == "make setup" and re.search(r"(?m)^setup:", (root() / "Makefile").read_text())


def test_what_the_wheel_is_built_of_is_not_ignored() -> None:
    project = (root() / "pyproject.toml").read_text(encoding="utf-8")
    needed = ["pyproject.toml", "README.md", "LICENSE", "scripts/setup.py"]
    needed += re.findall(r'(?m)^"([^"]+)" = "tinymetafed_codegen/_data', project)
    assert len(needed) == 8
    assert [path for path in needed if not (root() / path).exists() or ignored(patterns(root()), path)] == []


def test_instructions_are_read() -> None:
    steps = instructions("# note\nFROM a AS b\nRUN one \\\n && two\n\nCOPY --from=b /x /y\n")
    assert [(step.name, step.words) for step in steps] == [
        ("FROM", ["a", "AS", "b"]),
        ("RUN", ["one", "&&", "two"]),
        ("COPY", ["/x", "/y"]),
    ]
    assert steps[2].option("from") == "b"
    with pytest.raises(ValueError, match="ADD"):
        instructions("ADD x y")


@pytest.mark.parametrize(
    ("path", "is_ignored"),
    [(".git", True), ("a/b/__pycache__", True), ("tests/x.py", True), ("host/tests.py", False), ("build/x", True)],
)
def test_ignored_files(path: str, is_ignored: bool) -> None:
    assert ignored([".git", "**/__pycache__", "tests", "build"], path) == is_ignored
