"""The public workflows and forms: they are valid YAML, and their commands, paths and environments exist."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from exhaustive import EXHAUSTIVE
from test_docs import ROOT, command_fault, split_commands

from tinymetafed.projects.new import starters
from tinymetafed_codegen import __version__
from tinymetafed_codegen.board import boards

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: `make setup` brings it")

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
JOBS = ("test", "models", "image", "renode", "boards", "networks", "starters", "other-systems")
SYSTEM = {"apt-get", "curl", "docker", "echo", "mkdir", "pip", "sed", "sha256sum", "tar"}


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return dict(read["jobs"])


def commands(job: dict[str, Any]) -> list[str]:
    return [command for step in job["steps"] for line in step.get("run", "").splitlines() for command in split_commands(line)]


def test_every_step_has_a_command_or_an_action(jobs: dict[str, Any]) -> None:
    assert set(jobs) == set(JOBS)
    for job in jobs.values():
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("job", JOBS)
def test_commands_exist(jobs: dict[str, Any], job: str) -> None:
    found = commands(jobs[job])
    assert found and [fault for command in found if (fault := command_fault(command))] == []
    for command in found:
        program = shlex.split(command)[0]
        if program.startswith(".venv/"):
            assert found.index("make setup") < found.index(command)
        elif program.startswith("."):
            assert os.access(ROOT / program, os.X_OK), command
        else:
            assert program in SYSTEM | {"make", "pio", "pytest", "tinymetafed"}, command


def test_every_board_that_a_project_can_begin_with_is_built(jobs: dict[str, Any]) -> None:
    assert set(jobs["starters"]["strategy"]["matrix"]["board"]) == set(starters())


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    return read


def test_a_release_is_tested_and_built_before_it_is_published_without_a_password(release: dict[str, Any]) -> None:
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    build, publish = release["jobs"]["build"], release["jobs"]["publish"]
    found = commands(build)
    assert found.index(".ci/run") < found.index(".venv/bin/python -m build --outdir dist")
    assert publish["needs"] == "build" and publish["permissions"]["id-token"] == "write"
    assert release["permissions"] == {"contents": "read"}  # more only where a job says so
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    artifacts = [step["with"]["path"] for step in [*build["steps"], *publish["steps"]] if "artifact@" in step.get("uses", "")]
    assert artifacts == ["dist", "dist"]


def test_the_citation_has_the_packages_version_and_licence() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["version"] == __version__
    assert cited["license"] == "Apache-2.0" and cited["authors"] and cited["preferred-citation"]["year"] == 2023


@pytest.mark.parametrize("form", ["fault", "idea"])
def test_a_form_asks_for_what_doctor_prints(form: str) -> None:
    read = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text(encoding="utf-8"))
    fields = {field["id"]: field["attributes"]["label"] for field in read["body"] if field["type"] != "markdown"}
    assert read["name"] and read["description"] and len(fields) > 2
    asked = [command for label in fields.values() for command in re.findall(r"`(tinymetafed [^`]+)`", label)]
    assert asked == ["tinymetafed doctor --json"] and command_fault(asked[0]) == ""


def test_renodes_requirements_can_be_compiled(jobs: dict[str, Any]) -> None:
    """One of them, psutil 5.9.3, has no wheel for the Python of Debian 12: without a compiler and Python.h the job fails."""
    found = commands(jobs["renode"])
    (pip,) = [at for at, command in enumerate(found) if "/opt/renode/tests/requirements.txt" in command]
    installed = {word for command in found[:pip] if command.startswith("apt-get install") for word in shlex.split(command)}
    assert {"gcc", "python3-dev"} <= installed
    assert jobs["renode"]["container"] == "debian:12"


def test_every_real_board_is_built(jobs: dict[str, Any]) -> None:
    real = {name for name in boards.names() if boards.load(name).real}
    for command in (command for command in commands(jobs["boards"]) if command.startswith("pio ")):
        assert set(re.findall(r"-e (\w+)", command)) == real


def test_the_experiments_that_are_built_are_there(jobs: dict[str, Any]) -> None:
    pattern = jobs["boards"]["env"]["TINYMETAFED_EXPERIMENT"]
    for name in jobs["boards"]["strategy"]["matrix"]["experiment"]:
        path = pattern.replace("${{ github.workspace }}", str(ROOT)).replace("${{ matrix.experiment }}", name)
        assert Path(path).is_file()


def test_the_files_that_key_the_cache_exist() -> None:
    (files,) = re.findall(r"hashFiles\(([^)]*)\)", WORKFLOW.read_text(encoding="utf-8"))
    assert all((ROOT / name).is_file() for name in re.findall(r"'([^']+)'", files))


def test_the_workflow_runs_what_make_test_leaves_out(jobs: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"(?m)^test-all: .*\n\t\$\(BIN\)/pytest$", makefile), "test-all deselects nothing"
    assert "\nstep make test " in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test-all" in commands(jobs["renode"])


@pytest.mark.parametrize("name", sorted(EXHAUSTIVE))
def test_what_make_test_leaves_out_exists(name: str) -> None:
    file, _, function = name.partition("[")[0].partition("::")
    assert not function or f"\ndef {function}(" in (ROOT / file).read_text(encoding="utf-8")
    assert (ROOT / file).is_file()


def test_test_processes_keep_the_groups_of_tests(request: pytest.FixtureRequest) -> None:
    """Without groups, two processes would share pseudo-terminals and build the same firmware."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("all tests run in one process")
    grouped = [item.nodeid for item in request.session.items if item.get_closest_marker("xdist_group")]
    assert [nodeid for nodeid in grouped if "@" not in nodeid] == []
