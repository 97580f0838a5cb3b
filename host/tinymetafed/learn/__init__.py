"""The learning side: tasks, random numbers, codecs of weights and deltas, aggregation, schedules, strategies."""
