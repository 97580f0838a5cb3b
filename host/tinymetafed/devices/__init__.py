"""Clients on devices: serial lines, boards that come and go, firmware builds, launched emulators."""
