"""The end of a command's input over SSH."""

from __future__ import annotations

import paramiko

from orchestrator.adapters.sftp.connection import end_input


class _Wire:
    """Stands for the transport: keeps what is sent, and whether the channel was locked meanwhile."""

    def __init__(self) -> None:
        self.channel: paramiko.Channel | None = None
        self.locked: list[bool] = []

    def get_log_channel(self) -> str:
        return "paramiko"

    def _send_user_message(self, message: paramiko.Message) -> None:
        self.locked.append(self.channel is not None and self.channel.lock.locked())


def test_no_answer_to_the_commands_end_gets_between_the_end_of_input_and_the_wire() -> None:
    wire, channel = _Wire(), paramiko.Channel(0)
    wire.channel = channel
    channel._set_transport(wire)  # type: ignore[attr-defined]
    channel._set_window(1 << 20, 1 << 15)  # type: ignore[attr-defined]
    channel.remote_chanid, channel.active = 0, True
    end_input(channel)
    end_input(channel)
    assert wire.locked == [True]
