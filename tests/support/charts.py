"""The pages of a run with files of its own, asked in process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import BinaryIO

import httpx

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.run import Run
from orchestrator.services.overview import Overview
from orchestrator.services.readiness import Readiness
from orchestrator.web.app import Pages, create_app
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

OUT = "/mlci/output"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def get(world: World, path: str, content: Callable[[str], BinaryIO] | None = None) -> httpx.Response:
    pages = Pages(
        world.store,
        world.reports,
        ReportRenderer(),
        world.logs,
        lambda: Readiness({}, {}),
        lambda: True,
        lambda run: [],
        overview=lambda: Overview((), ()),
        content=content or world.blobs.open,
    )
    app = create_app(pages, frozenset({"127.0.0.1"}))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


def run_with(world: World, files: dict[str, bytes], replicates: int = 1) -> Run:
    world.engine.script(Script(files={f"{OUT}/{name}": content for name, content in files.items()}))
    return world.finish(world.first_run(pipeline(replicates=replicates)), world.server())


def addresses(page: str) -> list[str]:
    return re.findall(r'src="(/runs/[^"]+)"', page)
