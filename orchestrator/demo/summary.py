"""The table at the end of the demo, and where to look."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from orchestrator.demo.console import Terminal
from orchestrator.demo.product import Product
from orchestrator.demo.production import MODELS, Production
from orchestrator.demo.story import Chapter
from orchestrator.demo.workshop import PIPELINE, Workshop

_FETCHED = "demo-work"
_STYLES = {"passed": "green", "fixed": "green", "broken": "red", "failed": "red"}


class Places:
    """Where things are for the person at the terminal, who may be outside of the demo's container."""

    def __init__(self, workshop: Workshop, *, composed: bool) -> None:
        self.workshop = workshop
        self._composed = composed
        self.command = f"orchestrator --config {workshop.config}"
        """What a line of the product's own command begins with."""
        self.fetch = ""
        """The command that copies the folder out of the demo's container; empty where it is at hand."""
        if composed:
            # The demo has a schema of its own, which its configuration names.
            self.command = f"docker-compose run --rm -e ORCHESTRATOR_DATABASE= demo {self.command}"
            self.fetch = f"docker cp $(docker-compose ps --all --quiet demo):{workshop.root} {_FETCHED}"

    def of(self, path: Path) -> str:
        """How to name a path of the workshop, once it was fetched."""
        return str(_FETCHED / path.relative_to(self.workshop.root) if self._composed else path)


def print_result(
    terminal: Terminal,
    places: Places,
    product: Product,
    production: Production,
    chapters: list[Chapter],
    *,
    serve: bool,
) -> None:
    """What happened, how long it took, and where to look."""
    screen = terminal.screen
    screen.print()
    screen.print(_table(chapters))
    screen.print()
    for title, seconds in terminal.phases:
        screen.print(Text.assemble((f"  {seconds:5.1f} s  ", "dim"), title))
    screen.print()
    running = "" if serve else " (when the server is up)"
    workshop = places.workshop
    lines = (
        ("fetch it all", places.fetch),
        ("pages", "" if places.fetch and not serve else f"{product.url}{running}"),
        ("mails", f"{places.of(workshop.mails)}/*.eml"),
        ("logs", f"{places.of(workshop.serve_log)}, {places.of(workshop.state)}/logs"),
        ("releases", f"docker exec {production.container} ls -l {MODELS} {MODELS}/releases" if serve else ""),
        ("configuration", places.of(workshop.config)),
        ("runs", f"{places.command} runs list"),
    )
    for name, place in lines:
        if place:
            screen.print(Text.assemble((f"  {name:14}", "bold"), place), soft_wrap=True)


def tell_how_to_go_on(terminal: Terminal, workshop: Workshop, product: Product) -> None:
    """What a person may do while everything goes on."""
    lines = (
        f"\nEverything goes on until Ctrl-C. Push a change, and watch {product.url}:",
        f"  cd {workshop.clone} && $EDITOR train.py && git commit -am 'Try something' && git push",
        f"or add rows:  cp {workshop.data}/first-harvest.csv {workshop.data}/third-harvest.csv",
    )
    for line in lines:
        terminal.screen.print(line, soft_wrap=True)


def _table(chapters: list[Chapter]) -> Table:
    table = Table(title=f"What happened to {PIPELINE}", title_justify="left", show_lines=True, expand=True)
    table.add_column("run", no_wrap=True)
    for name, ratio in (("cause", 6), ("data", 4), ("verdict", 10), ("live release", 7), ("mail", 9)):
        table.add_column(name, ratio=ratio, min_width=4, overflow="fold")
    for chapter in chapters:
        run = chapter.run
        word = str(run["word"])
        data = "\n".join(f"{name} v{number}" for name, number in run["datasets"].items())
        released = [f"{d['release']} on {d['server']}" for d in chapter.deployments]
        verdict = Text.assemble((word, _STYLES.get(word, "")), f": {run['headline']}")
        table.add_row(
            f"#{run['number']}",
            f"{str(run['cause']).replace('_', ' ')}\n{run['commit'][:7]} {run['subject']}",
            data,
            verdict,
            "\n".join(released) or f"not deployed,\n{chapter.live or 'nothing'} stays",
            "\n".join(mail.subject for mail in chapter.mails),
        )
    return table
