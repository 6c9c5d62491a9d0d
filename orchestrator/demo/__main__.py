"""``python -m orchestrator.demo [--serve] [--dir DIR] [--database URL]``: the line, seen from outside."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from orchestrator.demo.console import Terminal
from orchestrator.demo.database import emptied
from orchestrator.demo.docker_cli import docker, engine_url, run_python
from orchestrator.demo.errors import DemoFailed, NotReady
from orchestrator.demo.mailbox import Mailbox
from orchestrator.demo.product import Product, command
from orchestrator.demo.production import Production
from orchestrator.demo.proof import Check, Proof
from orchestrator.demo.story import Story
from orchestrator.demo.summary import Places, print_result, tell_how_to_go_on
from orchestrator.demo.workshop import PROJECT, Workshop


def main(arguments: list[str] | None = None) -> int:
    """0: every check holds. 1: something did not happen as it should. 3: this machine lacks something."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.demo", description=main.__doc__)
    parser.add_argument("--serve", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="the folder to work in, made afresh")
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL database, in place of a SQLite file")
    parser.add_argument(
        "--composed", action="store_true", help="say how to get at things from outside of docker-compose.yml"
    )
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _as_interrupt)
    terminal = Terminal()
    workshop = Workshop(chosen.dir.resolve())
    places = Places(workshop, composed=chosen.composed)
    try:
        return Demo(terminal, workshop, chosen.database, places).run(serve=chosen.serve)
    except NotReady as error:
        print(f"demo: {error}", file=sys.stderr)
        return 3
    except DemoFailed as error:
        terminal.screen.print(f"\nThe demo failed: {error}", style="bold red", soft_wrap=True)
        _tell_where_to_look(terminal, workshop, places)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130


class Demo:
    """One demonstration, from an empty folder to the table at its end."""

    def __init__(self, terminal: Terminal, workshop: Workshop, database: str | None, places: Places) -> None:
        self._terminal = terminal
        self._workshop = workshop
        self._database = database
        self._places = places

    def run(self, *, serve: bool) -> int:
        """Tell the story, check it, print it. Raises NotReady, DemoFailed."""
        terminal, workshop = self._terminal, self._workshop
        command()
        engine = engine_url()
        with ExitStack() as stack:
            with terminal.phase("0  A repository, data, a mail server and a production server"):
                _forget_earlier(workshop)
                workshop.clear()
                mailbox, production = self._servers(stack)
                product, image, harvest = self._prepare(engine, mailbox.port, production)
                stack.callback(product.stop)
            story = Story(terminal, workshop, product, production, mailbox, harvest)
            try:
                story.tell()
            except DemoFailed as error:
                if error.run is not None:
                    print(product.call("runs", "show", str(error.run), expected=(0, 1, 2, 3, 4)))
                raise
            proof = Proof(workshop, product, production, mailbox, story.chapters, image)
            checks = self._prove(proof)
            print_result(terminal, self._places, product, production, story.chapters, serve=serve)
            failed = [check.what for check in checks if not check.holds]
            if failed:
                raise DemoFailed(f"{len(failed)} of {len(checks)} checks do not hold: {'; '.join(failed)}")
            terminal.screen.print(
                f"\nAll {len(checks)} checks hold, after {terminal.elapsed:.0f} s.", style="bold green"
            )
            if serve:
                self._serve(product)
            product.stop()
            _forget_earlier(workshop)
            return 0

    def _servers(self, stack: ExitStack) -> tuple[Mailbox, Production]:
        mailbox = stack.enter_context(Mailbox(self._workshop.mails))
        self._terminal.say(f"SMTP server at 127.0.0.1:{mailbox.port}")
        production = stack.enter_context(Production(self._workshop.root))
        self._terminal.say(f"sshd at 127.0.0.1:{production.port}, in the container {production.container}")
        return mailbox, production

    def _prepare(self, engine: str, smtp_port: int, production: Production) -> tuple[Product, str, str]:
        terminal, workshop = self._terminal, self._workshop
        workshop.create_repository()
        database = emptied(self._database, workshop.root) if self._database else None
        url = workshop.write_configuration(
            engine=engine,
            runner_image=_runner_image(),
            smtp_port=smtp_port,
            ssh_port=production.port,
            identity=production.identity,
            host_key=production.host_key,
            database=database,
        )
        product = Product(workshop.config, url, workshop.serve_log)
        for folder in (workshop.data, workshop.test_data):
            folder.mkdir(parents=True)
        product.call("validate")
        terminal.say(f"orchestrator validate: {workshop.config} is valid")
        if database:
            product.call("db", "upgrade")
            terminal.say(f"orchestrator db upgrade: its tables are in {database}")
        with product.making_image("cpu") as log:
            terminal.wait_for(
                "orchestrator images build cpu (the first time, it fetches scikit-learn)",
                lambda: log.ended or None,
                900,
                now=lambda: log.lines[-1] if log.lines else "",
            )
        image = product.image("cpu")
        terminal.say(f"orchestrator images build cpu: {image}")
        tables = json.loads(run_python(image, (PROJECT / "export.py.txt").read_text()))
        (workshop.data / "first-harvest.csv").write_text(tables["first"])
        (workshop.test_data / "wines.csv").write_text(tables["test"])
        return product, image, str(tables["second"])

    def _prove(self, proof: Proof) -> list[Check]:
        checks = []
        with self._terminal.phase("7  Looking after it"):
            for check in proof.checks():
                checks.append(check)
                mark, style = ("✓", "green") if check.holds else ("✗", "bold red")
                self._terminal.say(f"{mark} {check.what} ({check.found})", style=style)
        return checks

    def _serve(self, product: Product) -> None:
        tell_how_to_go_on(self._terminal, self._workshop, product)
        try:
            while True:
                product.check_alive()
                time.sleep(0.5)
        except KeyboardInterrupt:
            self._terminal.say("stopping")


def _runner_image() -> Path:
    """The recipe of the runner's image: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "runner-images" / "cpu", package / "_runner_images" / "cpu"):
        if folder.is_dir():
            return folder
    raise NotReady("the recipes of the runner images (runner-images/) are not there; reinstall the package")


def _forget_earlier(workshop: Workshop) -> None:
    """Remove what a demo in this folder left on the engine."""
    if not workshop.engine_note.is_file():
        return
    ours = f"name=^{workshop.engine_note.read_text()}"
    kinds = (("container", "--all"), ("network", "--no-trunc"), ("volume", "--quiet"))
    for kind, option in kinds:
        for name in docker(kind, "ls", "--quiet", option, "--filter", ours).decode().split():
            try:
                docker(kind, "rm", *(["--force"] if kind == "container" else []), name)
            except DemoFailed as error:
                print(f"demo: {error}", file=sys.stderr)
    workshop.engine_note.unlink()


def _tell_where_to_look(terminal: Terminal, workshop: Workshop, places: Places) -> None:
    if places.fetch:
        terminal.say(f"first fetch it:   {places.fetch}")
    terminal.say(f"the server's log: {places.of(workshop.serve_log)}")
    terminal.say(f"everything else:  {places.of(workshop.root)}")
    terminal.say(f"the runs:         {places.command} runs list")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
