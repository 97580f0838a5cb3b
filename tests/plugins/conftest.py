"""An installed wheel, for what users plug in from outside the checkout."""

from __future__ import annotations

import pytest
from installed_wheel import WheelVenv, install


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in one process, which installs the wheel once."""
    for item in items:
        if item.nodeid.startswith("tests/plugins/"):
            item.add_marker(pytest.mark.xdist_group("wheel"))


@pytest.fixture(scope="session")
def wheel_venv(tmp_path_factory: pytest.TempPathFactory) -> WheelVenv:
    """The wheel of this checkout in an environment of its own, outside the checkout."""
    return install(tmp_path_factory.mktemp("wheel"))
