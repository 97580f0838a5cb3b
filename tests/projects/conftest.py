"""An installed wheel, for tests of new projects."""

from installed_wheel import wheel_venv

__all__ = ["wheel_venv"]
