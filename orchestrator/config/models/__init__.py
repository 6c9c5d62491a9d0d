"""Frozen pydantic models of the files: durations are timedelta, sizes are bytes, paths are absolute."""
