"""Serial lines: transports, sessions with devices, injected faults, recordings, the monitor."""
