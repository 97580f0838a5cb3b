"""Libraries that are written for other people's programs: a trained model, and firmware for a sketch."""
