"""Frozen pydantic models of the configuration files; durations are timedelta, sizes are bytes, paths absolute."""
