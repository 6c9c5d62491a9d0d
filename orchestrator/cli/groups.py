"""Groups of commands that say what there is when somebody asks for what there is not."""

from __future__ import annotations

from typing import Final

import click

_WHOLE: Final = 1000
"""Characters, more than any first sentence has."""


class CommandGroup(click.Group):
    """A group that suggests the command that was meant."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each command with its whole first sentence, which click would cut to fit one line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, found.get_short_help_str(_WHOLE)) for name, found in commands if found is not None]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but an unknown command is told with the one that is like it, or with all."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], known, 1)
            meant = f' Did you mean "{close[0]}"?' if close else f" There are: {', '.join(known)}."
            asked = args[0] if ctx.parent is None else f"{ctx.info_name} {args[0]}"
            ctx.fail(f'There is no command "{asked}".{meant}')
        return super().resolve_command(ctx, args)
