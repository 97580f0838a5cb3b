"""Runs the SCons of this Python environment; PlatformIO starts its build with `python scons.py ...`."""

import SCons.Script

SCons.Script.main()
