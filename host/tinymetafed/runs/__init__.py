"""Runs on disk: begun, continued, stored, reported and exported."""
