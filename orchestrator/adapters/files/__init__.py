"""What the orchestrator keeps in plain files: contents by their hash, and logs of attempts."""
