"""Runs while they train, for those who watch: their states, a page that grows, and the server of that page."""
