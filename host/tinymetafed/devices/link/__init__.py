"""The serial side: frames, transports, sessions with boards, and processes that stand in for boards."""
