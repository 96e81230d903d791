"""The halves of what guests share beside the LAN, by name."""

from __future__ import annotations

from . import calls, pipes, queues, regions
from .shared import Receive, Send

__all__ = ["RECEIVE", "SEND"]

SEND: dict[str, Send] = {**pipes.SEND, **queues.SEND, **calls.SEND, **regions.SEND}

RECEIVE: dict[str, Receive] = {**pipes.RECEIVE, **queues.RECEIVE, **calls.RECEIVE, **regions.RECEIVE}
