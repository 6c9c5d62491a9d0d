"""``orchestrator serve``: everything at once, until stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli.settings import PASSED, UNKNOWN, Settings, global_options, this

if TYPE_CHECKING:
    import logging

    from uvicorn import Server

    from orchestrator.bootstrap import Application
    from orchestrator.config.load import Configuration
    from orchestrator.scheduler import Service

_GRACE = 3


@click.command()
@click.option("--host", metavar="ADDRESS", help="Listen here (else web.host of orchestrator.yaml).")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Listen on this port; 0 for any.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How logs are written [text].",
)
@global_options
def serve(host: str | None, port: int | None, log_format: Literal["text", "json"]) -> int:
    """Watch, run, judge and act until stopped.

    SIGTERM or Ctrl-C stops in good order: running containers go on, and the next server takes them over. A
    second one ends at once.
    """
    import logging

    from orchestrator.observe import configure_logging

    settings = this()
    configure_logging("DEBUG" if settings.verbose else "INFO", json=log_format == "json")
    # All the rest is still to be imported, read and upgraded: until then, this says that something happens.
    logging.getLogger("orchestrator.serve").info("starting, the configuration is in %s", settings.folder)
    config = _with_address(settings.configuration(), host, port)
    web = config.orchestrator.web
    listening = _listen(web.host, web.port)
    try:
        actual = listening.getsockname()[1]
        config = _with_address(config, web.host, actual)
        if web.url is None:
            here = config.orchestrator.web.model_copy(update={"url": f"http://{web.host}:{actual}"})
            config = replace(config, orchestrator=config.orchestrator.model_copy(update={"web": here}))
        return _serve(settings, config, listening, json=log_format == "json")
    finally:
        listening.close()


def _with_address(config: Configuration, host: str | None, port: int | None) -> Configuration:
    """The configuration as if its file said so. Raises InvalidInput for an address of the network."""
    from orchestrator.config.models.common import is_loopback
    from orchestrator.domain.errors import InvalidInput

    if host is not None and not is_loopback(host):
        raise InvalidInput(
            f"--host {host} would open the server to the network, and it has no users and passwords yet",
            "listen on 127.0.0.1, and put a reverse proxy with a login in front of it",
        )
    web = config.orchestrator.web
    changed = {"host": host or web.host, "port": web.port if port is None else port}
    return replace(
        config,
        orchestrator=config.orchestrator.model_copy(update={"web": web.model_copy(update=changed)}),
    )


def _listen(host: str, port: int) -> socket.socket:
    from orchestrator.domain.errors import OrchestratorError

    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise OrchestratorError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "stop what listens there, or choose another port: --port N (0 takes a free one), "
            "or with docker-compose ORCHESTRATOR_PORT in the file .env",
        ) from error
    return made


def _serve(settings: Settings, config: Configuration, listening: socket.socket, *, json: bool) -> int:
    import logging

    from orchestrator.bootstrap import Application
    from orchestrator.observe import configure_logging
    from orchestrator.store import migrations

    app = Application(config)
    configure_logging("DEBUG" if settings.verbose else "INFO", json=json, masker=app.masker)
    log = logging.getLogger("orchestrator.serve")
    try:
        migrations.upgrade(app.database_url)
        for other in app.live_servers():
            log.warning("another server works on this database, the two share the runs: %s", other.owner)
        web = config.orchestrator.web
        url = f"http://{web.host}:{web.port}"
        service = app.service(url)
        server = _web_server(app, service)
        log.info("listening on %s, state in %s", url, app.state)
        _tell_what_is_watched(app, log)
        threading.Thread(target=_look_at_hosts, args=(app, log), name="hosts", daemon=True).start()
        with _stopped_by_signals(server):
            service.start()
            try:
                server.run(sockets=[listening])
            finally:
                service.stop()
        log.info("stopped")
        return PASSED if server.started else UNKNOWN
    finally:
        app.close()


def _web_server(app: Application, service: Service) -> Server:
    import uvicorn

    class OurServer(uvicorn.Server):
        """Leaves signals to us: uvicorn would end the process before the service has stopped."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return OurServer(
        uvicorn.Config(
            app.web(service),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
        )
    )


def _tell_what_is_watched(app: Application, log: logging.Logger) -> None:
    for pipeline in app.pipelines.values():
        for source in pipeline.sources:
            branches = ", ".join(source.branches)
            log.info("%s watches %s (%s) every %g s", pipeline.name, source.location, branches, source.poll)
        for dataset in pipeline.datasets:
            log.info("%s watches the data in %s every %g s", pipeline.name, dataset.path, dataset.poll)
        for words in app.occasions.words(pipeline):
            log.info("%s runs by schedule: %s", pipeline.name, words)
        if pipeline.after:
            log.info("%s runs after %s", pipeline.name, ", ".join(pipeline.after))
    for repository in app.repositories.values():
        source = repository.source
        branches = ", ".join(source.branches)
        log.info("repository %s: %s (%s) is asked what runs", repository.name, source.location, branches)
    if not app.pipelines and not app.repositories:
        log.warning("there is no pipeline, so nothing will run")


def _look_at_hosts(app: Application, log: logging.Logger) -> None:
    from orchestrator.domain.errors import OrchestratorError

    for name, engine in app.engines.items():
        try:
            info = engine.info()
            log.info("host %s: Docker %s, %d cores", name, info.version, info.cpus)
        except OrchestratorError as error:
            log.error("host %s cannot execute runs now, its attempts will wait or fail: %s", name, error)


@contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops in good order, the second at once."""
    asked = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
