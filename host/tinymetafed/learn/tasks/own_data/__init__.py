"""The user's own data: files to tables, tables to recordings, recordings to windows, all problems listed at once."""
