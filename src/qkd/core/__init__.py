"""Errors, logging and progress, configuration, files, records, the cache, run folders, worker processes."""
