"""An installed wheel, for tests of plug-ins outside the checkout."""

from installed_wheel import wheel_venv

__all__ = ["wheel_venv"]
