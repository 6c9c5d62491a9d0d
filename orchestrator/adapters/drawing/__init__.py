"""Charts of reports, drawn by matplotlib in a process of their own."""

from orchestrator.adapters.drawing.drawer import ChartDrawer

__all__ = ["ChartDrawer"]
