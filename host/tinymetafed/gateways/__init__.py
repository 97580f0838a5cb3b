"""Boards behind gateways: other machines that own boards, between which a run spreads its clients."""
