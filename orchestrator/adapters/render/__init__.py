"""What people read about a run: an HTML page that fits into a mail, and the same as plain text."""

from orchestrator.adapters.render.custom import CustomTemplates
from orchestrator.adapters.render.renderer import ReportRenderer

__all__ = ["CustomTemplates", "ReportRenderer"]
