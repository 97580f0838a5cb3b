"""An installed wheel, for tests of plug-ins outside the checkout."""

from __future__ import annotations

import pytest
from installed_wheel import WheelVenv, install


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs these tests in one process, so that the wheel is installed only once."""
    for item in items:
        if item.nodeid.startswith("tests/plugins/"):
            item.add_marker(pytest.mark.xdist_group("wheel"))


@pytest.fixture(scope="session")
def wheel_venv(tmp_path_factory: pytest.TempPathFactory) -> WheelVenv:
    """The wheel of this checkout, installed in a separate environment outside the checkout."""
    return install(tmp_path_factory.mktemp("wheel"))
