"""Runs: started, resumed, stored, reported and exported."""

TEST_URL = "native:2"  # devices for held-out clients, where no others are given
