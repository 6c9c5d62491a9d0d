"""Ticks: calls the services when their time has come, and holds no state of its own."""
