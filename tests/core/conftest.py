"""Fixtures of the core's tests: every test runs on the plain build and under the sanitizers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from core_harness import SANITIZERS, Core, SanitizedProcess, SharedLibrary, compile_harness

# One group per build, so that each parallel worker compiles one build only.
# -O1: -O2 compiles for a third longer, and all tests together take less than that.
BUILDS = [pytest.param(build, marks=pytest.mark.xdist_group(f"core-{build}")) for build in ("shared", "sanitized")]


@pytest.fixture(scope="session", params=BUILDS)
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """The firmware core."""
    folder = tmp_path_factory.mktemp(f"core-{request.param}")
    if request.param == "shared":
        yield Core(SharedLibrary(compile_harness(folder, "core.so", "-O1", "-shared", "-fPIC")))
        return
    process = SanitizedProcess(compile_harness(folder, "core", "-Og", "-DTMF_PROCESS", *SANITIZERS))
    yield Core(process)
    process.close()
