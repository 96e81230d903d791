"""The halves of calls, and of gRPC beside them."""

from __future__ import annotations

from . import grpc_calls
from .shared import Receive, Send, Shared

__all__ = ["RECEIVE", "SEND"]


def _grpc_answer(shared: Shared, size: int, count: int) -> None:
    grpc_calls.serve(shared)


def _grpc_ask(shared: Shared, size: int, count: int) -> float:
    return grpc_calls.ask(shared, size, count)


SEND: dict[str, Send] = {"grpc": _grpc_answer}

RECEIVE: dict[str, Receive] = {"grpc": _grpc_ask}
