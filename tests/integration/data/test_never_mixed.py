"""Whatever breaks off and changes in between, a run gets just the data of its version, or hears why not."""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.http import HttpPlace
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.domain.errors import DatasetMoved
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.dataweb import DataWeb, Served
from tests.support.remotedata import contents, quiet

FILES = ("a", "b")
SIZE = 300_000
Step = tuple[str, str, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("cut", "change", "change while it is sent", "fetch", "restart")),
        st.sampled_from(FILES),
        st.integers(0, SIZE),
    ),
    max_size=8,
)


class Server:
    """Two files of the same size, of which each version has its own bytes."""

    def __init__(self, web: DataWeb, strong: bool, ranges: bool) -> None:
        self.web = web
        self.strong = strong
        self.ranges = ranges
        self.versions = count()
        for name in FILES:
            self.change(name)

    def change(self, name: str) -> None:
        version = next(self.versions)
        etag = f'"{version}"' if self.strong else f'W/"{version}"'
        self.web.files[f"/{name}"] = Served(bytes([version % 251]) * SIZE, etag=etag, ranges=self.ranges)

    def do(self, step: Step) -> None:
        what, name, size = step
        served = self.web.files[f"/{name}"]
        if what == "cut":
            served.cut = size
        elif what == "change":
            self.change(name)
        elif what == "change while it is sent":
            served.between = partial(self.change, name)


@pytest.mark.parametrize("strong", [True, False], ids=["strong ETags", "weak ETags"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ranges=st.booleans())
def test_data_are_never_a_mixture(web: DataWeb, strong: bool, steps: list[Step], ranges: bool) -> None:
    server = Server(web, strong, ranges)
    spec = DatasetSpec("wine", web.url, kind=DatasetKind.HTTP, options=(("file", "a"), ("file", "b")))
    with tempfile.TemporaryDirectory() as folder:

        def source() -> RemoteDataset:
            place = HttpPlace(lambda _: Access(allow_private=True))
            return RemoteDataset(place, Cache(Path(folder), 1 << 26), sleep=lambda _: None)

        dataset = source()
        pinned = dataset.snapshot(spec, (), quiet).entries
        wanted = {name: web.files[f"/{name}"].content for name in FILES}
        for step in [*steps, ("fetch", "a", 0)]:
            server.do(step)
            if step[0] == "restart":
                dataset = source()
            if step[0] != "fetch":
                continue
            try:
                assert contents(dataset, spec, pinned) == wanted
            except DatasetMoved:
                # Said only when it is so.
                assert {name: web.files[f"/{name}"].content for name in FILES} != wanted
