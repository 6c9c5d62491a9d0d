"""The errors are the tree that the module draws."""

import re

from orchestrator.domain import errors


def drawn() -> dict[str, str]:
    """Each error of the drawing with the one that it hangs on."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:│   |    )*(?:[├└]── )?)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    defined = {
        name: cls.__base__.__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__base__
    }
    assert len(defined) > 20
    assert drawn() == defined


def test_an_error_says_its_remedy_after_what_is_wrong() -> None:
    assert str(errors.NotFound("no run 7")) == "no run 7"
    assert str(errors.NotFound("no run 7", "see: runs list")) == "no run 7; see: runs list"
    rejected = errors.ImageRejected("line 3 failed", log="boom", remedy="see the log")
    assert (rejected.log, str(rejected)) == ("boom", "line 3 failed; see the log")
