"""Text that others wrote, so that each chat shows it as it is: no markup, and nobody is called by it."""

from __future__ import annotations

from typing import Final

_JOINER: Final = "\u2060"
"""Nobody sees it; a name or a command that is looked for does not go on behind it."""
_CALLS: Final = {"@": f"@{_JOINER}", "#": f"#{_JOINER}", "~": f"~{_JOINER}"}
_MATTERMOST: Final = frozenset("\\`*_{}[]()>+-.!|~#")
"""A backslash before any other sign would be shown."""
_DISCORD: Final = _MATTERMOST | frozenset("<:=")


def slack(text: str) -> str:
    """For mrkdwn: what is between < and > would be a mention or a link."""
    replaced = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": f"@{_JOINER}"}
    return "".join(replaced.get(sign, sign) for sign in text)


def discord(text: str) -> str:
    """For Discord's Markdown."""
    return "".join(_escaped(sign, {"@": f"@{_JOINER}"}, _DISCORD) for sign in text)


def mattermost(text: str) -> str:
    """For Mattermost's Markdown, which also looks for @names, ~channels and #tags."""
    return "".join(_escaped(sign, _CALLS, _MATTERMOST) for sign in text)


def uncalled(text: str) -> str:
    """For Mattermost where it shows texts as they are."""
    return "".join(_CALLS.get(sign, sign) for sign in text)


def literal(text: str) -> str:
    """For what services show as it is: only calls are undone, in case it is copied elsewhere."""
    return text.replace("@", f"@{_JOINER}")


def code(text: str) -> str:
    """For a block of code that ends at three backticks."""
    return text.replace("`", "'").replace("@", f"@{_JOINER}")


def _escaped(sign: str, calls: dict[str, str], markup: frozenset[str]) -> str:
    shown = calls.get(sign, sign)
    return f"\\{shown}" if sign in markup else shown
