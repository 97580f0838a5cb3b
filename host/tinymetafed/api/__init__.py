"""The implementation of the public API: experiments, runs, measurements, progress."""
