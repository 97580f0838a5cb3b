"""Frames and messages: typed values to bytes and back; pure, and shared by devices and the simulation."""
