"""What the tests of pipes stand on: both ends here, or the other end in another process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import support

import vnet
from vnet.pipes import Pipe, pair

# Whatever the other process does, it does as guest `b`, which connected to service `svc` of guest `host`.
_OTHER = """
import io, json, os, pickle, socket, threading
import vnet.pipes

nic = vnet.attach("office", "b")
pipe = nic.connect("host", "svc", timeout=10, **json.loads(sys.argv[1]))
"""


@pytest.fixture
def ends() -> Iterator[Callable[..., tuple[Pipe, Pipe]]]:
    """Makes pipes with both ends in this process, which are closed with the test."""
    with contextlib.ExitStack() as stack:

        def make(**about: Any) -> tuple[Pipe, Pipe]:
            first, second = pair(**about)
            stack.callback(first.close)
            stack.callback(second.close)
            return first, second

        yield make


@pytest.fixture
def across(named: vnet.Lan, guest: Callable[..., support.Guest]) -> Iterator[Callable[..., tuple[Pipe, support.Guest]]]:
    """Makes pipes whose other end is another process, which runs `program` with `pipe` in it."""
    import json

    with contextlib.ExitStack() as stack:
        host = stack.enter_context(named.attach("host"))
        listener = stack.enter_context(host.listen("svc"))

        def start(program: str, **about: Any) -> tuple[Pipe, support.Guest]:
            other = guest(_OTHER + program, json.dumps(about))
            pipe = listener.accept(timeout=20)
            stack.callback(pipe.close)
            return pipe, other

        yield start
