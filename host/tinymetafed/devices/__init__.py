"""Clients on devices: serial lines, devices that are lost and come back, firmware builds, emulators."""
