"""Wires the product together: the only place that knows every layer."""
