"""How the demo fails: always with what was expected and where to look."""


class DemoFailed(Exception):
    """Something did not happen as it should. ``run`` is the run's id, if it is about one."""

    def __init__(self, message: str, *, run: int | None = None) -> None:
        super().__init__(message)
        self.run = run


class NotReady(Exception):
    """This machine lacks something that the demo needs; the message says what, and how to get it."""
