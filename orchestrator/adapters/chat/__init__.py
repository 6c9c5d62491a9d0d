"""Reports as messages of Slack, Teams, Discord and Mattermost."""

from orchestrator.adapters.chat.chats import FORMS, ReportChats

__all__ = ["FORMS", "ReportChats"]
