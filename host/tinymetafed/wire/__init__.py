"""Frames and messages of the serial protocol, to bytes and back; pure functions that devices and the simulation share."""
