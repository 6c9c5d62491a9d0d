"""Masking the lines of a log with the secrets of a run, beside plain searches for the same secrets."""

from __future__ import annotations

import base64
import random
import re
import string
import time
from collections.abc import Callable

from orchestrator.observe import LogMask, Masker
from tests.benchmarks.harness import Figures, Parameters, in_turns, ratios_to_first, table

_LETTERS = string.ascii_letters + string.digits


def measure(parameters: Parameters) -> Figures:
    """Seconds for a megabyte; ratios to one search for the five bare values, which finds no other form.

    ``rounds``: 7, ``lines``: 20,000. ``alternation`` is the obvious way to find all forms.
    """
    made = random.Random(1)  # noqa: S311 - the same text each time
    values = ["".join(made.choices(_LETTERS, k=40)) for _ in range(4)] + ["tok/en+%=&?'\"$(id) ü"]
    key = "\n".join(base64.b64encode(made.randbytes(48)).decode() for _ in range(25))
    lines = [
        f"epoch {number}/300 - loss: 0.{made.randrange(10**6)} - accuracy: 0.{made.randrange(10**5)} - "
        f"/usr/lib/python3/dist-packages/sklearn/Model.py:{number} WARNING something".encode()
        for number in range(parameters.number("lines", 20_000))
    ]
    size = sum(map(len, lines)) / 1e6
    few, many = Masker(values), Masker([*values, key])

    def each(act: Callable[[bytes], object]) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            for line in lines:
                act(line)
            return (time.perf_counter() - began) / size

        return run

    bare = re.compile(b"|".join(re.escape(value.encode()) for value in values))
    forms = sorted(few.forms.all, key=lambda form: (-len(form), form))
    samples = in_turns(
        {
            "bare_values": each(bare.search),
            "alternation": each(re.compile(b"|".join(map(re.escape, forms))).search),
            "masker": each(few.mask_bytes),
            "log_mask": each(LogMask(few).line),
            "log_mask_with_a_key": each(LogMask(many).line),
        },
        parameters.number("rounds", 7),
    )
    table(
        f"a megabyte of log, {len(few.forms.all)} forms, with a key {len(many.forms.all)}", samples, "ms", 1e3
    )
    return Figures(ratios_to_first(samples), samples)
