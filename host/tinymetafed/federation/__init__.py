"""Rounds and meta-tests over clients, wherever these are; knows no serial line and no vector unit."""
