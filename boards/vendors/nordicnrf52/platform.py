"""The vendor's PlatformIO platform nordicnrf52, in the version of platform.json."""

from pathlib import Path

from platformio.compat import load_python_module

Vendor_nordicnrf52Platform = load_python_module("vendor", str(Path(__file__).parents[1] / "vendor.py")).vendor_platform(
    __file__
)
