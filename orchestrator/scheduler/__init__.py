"""What makes things happen: looks at what is watched, and loops that call the use cases."""

from orchestrator.scheduler.loops import Changes, Loop
from orchestrator.scheduler.service import Service
from orchestrator.scheduler.watcher import Watcher

__all__ = ["Changes", "Loop", "Service", "Watcher"]
