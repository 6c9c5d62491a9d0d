"""Reading what trainings leave: which files belong to a known format, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from orchestrator.domain.collected import Reading
from orchestrator.domain.predictions import Predictions

Wanted = Callable[[Sequence[str]], Collection[str]]
"""Which of a table's columns are needed, by the names of all."""


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that is kept. ``open`` gives its content anew each time, seekable, at its start."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Claim:
    """Files that are read together, by the reader of that name, such as all of one ``mlruns`` folder.

    ``declared``: the pipeline names one of them; what is wrong with them is then a mistake, no warning.
    """

    reader: str
    paths: tuple[str, ...]
    declared: bool = False


class Collectors(Protocol):
    """All known formats. Pure: files to values; thread-safe. Nothing is unpickled, imported or executed."""

    @property
    def layouts(self) -> Sequence[str]:
        """Patterns of the files that are found without being declared, from the folder where it ran."""

    def reads(self, path: str, declared: bool = False) -> bool:
        """Whether a file may be one of a known format, by its path alone."""

    def claims(self, paths: Iterable[str], declared: Callable[[str], bool]) -> Sequence[Claim]:
        """Who reads what. ``paths`` are all that is there; each is read at most once.

        A declared file that no claim holds is of no known format.
        """

    def read(self, claim: Claim, files: Mapping[str, LeftFile]) -> Reading:
        """What the files of a claim hold; those that lack in ``files`` are passed over.

        Raises InvalidInput naming file, place and what was expected when nothing can be told of them. Where
        only part of them is broken, that part is a warning. Never reads more of a file than it needs.
        """

    def read_as(self, file: LeftFile, form: str) -> Reading:
        """A file as of the format ``json``, ``yaml``, ``toml``, ``jsonl``, ``csv``, ``tsv``, ``junit``,
        ``mlflow`` or ``tensorboard``, whatever its name. Raises InvalidInput as above.
        """

    def named_by(self, file: LeftFile) -> Sequence[str]:
        """The files of metrics that a ``dvc.yaml`` declares; none for any other file."""

    def check(self, pattern: str) -> None:
        """Raises InvalidInput for a pattern that cannot be searched for."""

    def predictions(self, file: LeftFile, wanted: Wanted, most: int) -> Predictions:
        """The wanted columns of a file with a prediction for each row: CSV, TSV, JSON lines or Parquet.

        Raises InvalidInput, and that too where these take more than ``most`` bytes of memory.
        """

    def search(self, file: LeftFile, pattern: str) -> Reading:
        """The numbers that the named groups of a regular expression find in a text, line by line.

        A metric has the last match, its series all; a group ``step`` tells the step. The expression is of
        RE2's kind, which takes time in proportion to the text. Raises InvalidInput for one that is not, that
        has no named group, or that finds nothing.
        """

    def printed(self, lines: Iterable[bytes], wanted: Collection[str], pattern: str = "") -> Reading:
        """The numbers in a program's output.

        Read are lines that are a JSON object; the groups of ``pattern``; and of the names in ``wanted`` lines
        such as ``accuracy: 0.93`` or ``test accuracy = 93.1 %``, the last one of each. Warnings have no file.
        """
