"""One Docker engine through its API: :class:`orchestrator.adapters.docker.engine.DockerEngine`."""
