"""Data that lie elsewhere, from a change there to a run that was given just what it was pinned to."""

from __future__ import annotations

import json

from tests.support.dataweb import DataWeb, Served
from tests.support.installation import Installation

PATIENCE = 90.0


def test_runs_get_data_of_the_web_as_they_were_pinned_or_say_that_they_moved_on(
    installation: Installation,
) -> None:
    with DataWeb().serving() as web:
        web.files["/rows.csv"] = Served(b"1\n2\n", etag='"one"')
        rows = {"url": f"{web.url}/rows.csv", "allow_private": True, "poll": "1s", "settle": "0s"}
        installation.pipeline = {"datasets": {"rows": rows}}
        installation.write()
        installation.commit(0.8)
        made = json.loads(installation.orchestrator("--json", "run", "line", "--no-wait"))
        assert made["datasets"] == {"rows": 1}
        web.files["/rows.csv"] = Served(b"1\n2\n3\n", etag='"two"')
        installation.serve()
        installation.smtp.wait_for(2, PATIENCE)
        web.files["/rows.csv"] = Served(b"1\n2\n3\n4\n", etag='"three"')
        installation.smtp.wait_for(3, PATIENCE)
        first, second, third = installation.json("runs", "list")[::-1]
        assert (first["state"], first["reason"]) == ("errored", "data_moved")
        assert "rows.csv is not what it was: the server has another one by now" in first["sentence"]
        assert [(run["state"], run["datasets"]) for run in (second, third)] == [
            ("passed", {"rows": 2}),
            ("passed", {"rows": 3}),
        ]
        assert web.asked("GET").count("/rows.csv") == 3
