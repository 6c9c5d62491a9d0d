"""What people learn of the running system, and what must never show in it: masking, structured logs.

Importing this package costs next to nothing: structlog is loaded when the first line is logged.
"""

from orchestrator.observe.logs import bound, configure_logging
from orchestrator.observe.masking import SHORTEST_SECRET, Masker
from orchestrator.observe.streams import MASK_ADDED, LogMask, StreamMask

__all__ = [
    "MASK_ADDED",
    "SHORTEST_SECRET",
    "LogMask",
    "Masker",
    "StreamMask",
    "bound",
    "configure_logging",
]
