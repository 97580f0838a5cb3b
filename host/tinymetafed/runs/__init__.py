"""Runs: started, resumed, stored, reported and exported."""
