"""Fixtures of the device tests: boards that run for the whole session, handed to each test in a session of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rig import ALL, PATIENT_RETRIES, QUICK, Board, Boards, present


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "board" in metafunc.fixturenames:
        metafunc.parametrize("url", present(ALL if metafunc.definition.get_closest_marker("essential") else QUICK))


@pytest.fixture(scope="session")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    """``boards(url, model)`` gives a running board."""
    with ExitStack() as stack:
        yield Boards(stack, tmp_path_factory.mktemp("sanitized"))


@pytest.fixture
def board(request: pytest.FixtureRequest, boards: Boards, url: str) -> Iterator[Board]:
    """The board at ``url`` with the test's ``model`` (default: sine), in a new session."""
    model = request.getfixturevalue("model") if "model" in request.fixturenames else "sine"
    found = boards(url, model)
    found.session.deadline, found.session.retries = 0.1, PATIENT_RETRIES
    found.forget()
    yield found
    findings = boards.findings()
    assert not findings, findings
