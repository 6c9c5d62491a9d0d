"""Executing attempts, wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.services.benchmark import Benchmarks
from orchestrator.services.checkpoints import Checkpoints
from orchestrator.services.collect import OutputCollector
from orchestrator.services.dispatch import Dispatcher, ProgressFor
from orchestrator.services.execute import ExecutionPorts
from orchestrator.services.fleet import ByName
from orchestrator.services.hardware import Hardware
from orchestrator.services.prepare import Preparer

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def dispatcher_of(
    app: Application, wake: Callable[[], None], wants: Callable[[int], bool], progress_for: ProgressFor
) -> Dispatcher:
    """Executes attempts of the runs that are wanted."""
    from orchestrator.adapters.collectors import format_readers

    preparer = Preparer(
        app.store,
        app.sources,
        app.stager,
        app.images,
        app.supply,
        app.networks,
        app.gpus,
        app.scratch,
    )
    outputs = OutputCollector(app.blobs, format_readers(app.scratch))
    ports = ExecutionPorts(
        store=app.store,
        preparer=preparer,
        networks=app.networks,
        gpus=app.gpus,
        outputs=outputs,
        benchmarks=Benchmarks(preparer, outputs, app.blobs, app.gpus, app.clock, app.scratch),
        logs=app.logs,
        secrets=app.secrets,
        clock=app.clock,
        reach=app.watched,
        hosts=ByName(app.fleet.known),
        checkpoints=Checkpoints(app.store, app.checkpoints, app.room.state_lacks),
        hardware=Hardware(app.clock),
        full=app.room.full,
        where=app.room.where,
    )
    app.room.loud = True
    app.gpus.patient = False
    return Dispatcher(ports, app.chooser(app.watched), app.engines, app.processes, progress_for, wake, wants)
