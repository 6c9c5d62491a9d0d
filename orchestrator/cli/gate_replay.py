"""``orchestrator gate replay``: what a gate would have said about runs of the past."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import pipeline_names
from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from orchestrator.services.replay import Replayed


@click.command("replay")
@click.argument("pipeline", shell_complete=pipeline_names)
@click.option(
    "--last",
    metavar="NUMBER",
    type=click.IntRange(1, 500),
    default=20,
    show_default=True,
    help="How many of the last judged runs.",
)
@global_options
def replay(pipeline: str, last: int) -> int:
    """Show what the gate as it is configured now would have said about the last runs.

    Nothing is trained and nothing written: each run is judged by what is stored of it and of what was known
    when it ended. Where that is not enough, it is inconclusive and says why.
    """
    from orchestrator.cli.output import print_json
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain

    settings = this()
    with settings.application() as app:
        found = app.replayer.replay(app.pipeline(pipeline), last)
    if settings.json:
        print_json(
            [
                {
                    "run": reference(each.run),
                    "then": each.then.value if each.then else None,
                    "now": each.verdict.outcome.value,
                    "differs": each.differs,
                    "replicates": each.replicates,
                    "sentence": each.verdict.sentence,
                    "notes": list(each.notes),
                    "checks": to_plain(each.verdict.checks),
                }
                for each in found
            ]
        )
    else:
        _print(found)
    return PASSED


def _print(found: Sequence[Replayed]) -> None:
    from orchestrator.cli.output import Column, count, print_table, say
    from orchestrator.cli.views import reference

    if not found:
        say("no run has been judged yet")
        return
    rows = [
        (
            reference(each.run),
            each.then.value if each.then else "",
            f"{each.verdict.outcome.value}{' *' if each.differs else ''}",
            str(each.replicates),
            "; ".join((each.verdict.sentence, *each.notes)),
        )
        for each in found
    ]
    columns = ("run", "then", "now", Column("replicates", right=True), Column("evidence", fold=True))
    print_table(columns, rows)
    outcomes = Counter(each.verdict.outcome.value for each in found)
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    differ = sum(each.differs for each in found)
    say(f"{count(len(found), 'run')}: {told}; {differ or 'none'} differ{'s' if differ == 1 else ''} (*)")
