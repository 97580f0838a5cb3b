"""Boards: their files, facts, environments and what they need on this machine."""
