"""ssh over a pipe: paramiko's transport, which takes a socket, with sessions, forwarding of data and files."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vnet.pipes import Pipe

paramiko = pytest.importorskip("paramiko", reason="paramiko is not installed: pip install paramiko")


class _Server(paramiko.ServerInterface):  # type: ignore[misc, name-defined]
    def check_auth_password(self, username: str, password: str) -> int:
        return int(paramiko.AUTH_SUCCESSFUL if (username, password) == ("me", "right") else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, command), daemon=True).start()
        return True


def _execute(channel: Any, command: bytes) -> None:
    digest = hashlib.sha256()
    # To the end: by then the client has heard that the command runs.
    while data := channel.recv(1 << 16):
        digest.update(data)
    if command.startswith(b"echo "):
        channel.sendall(command[5:])
    elif command == b"sha256":
        channel.sendall(digest.hexdigest().encode())
    else:
        channel.sendall_stderr(b"unknown\n")
    channel.send_exit_status(0)
    channel.close()


@pytest.fixture(scope="module")
def key() -> Any:
    return paramiko.ECDSAKey.generate()


@pytest.fixture
def client(ends: Callable[..., tuple[Pipe, Pipe]], key: Any) -> Iterator[Any]:
    near, far = ends()
    server, client = paramiko.Transport(far.socket()), paramiko.Transport(near.socket())
    try:
        server.add_server_key(key)
        server.start_server(event=threading.Event(), server=_Server())
        client.start_client(timeout=20)
        assert client.get_remote_server_key() == key
        client.auth_password("me", "right")
        yield client
    finally:
        client.close()
        server.close()
        client.join(10)
        server.join(10)


def _run(client: Any, command: str, data: bytes = b"") -> bytes:
    with client.open_session(timeout=20) as channel:
        channel.settimeout(20)
        channel.exec_command(command)
        channel.sendall(data)
        channel.shutdown_write()
        said = b""
        while piece := channel.recv(1 << 16):
            said += piece
        assert channel.recv_exit_status() == 0
        return said


def test_commands_run_and_answer(client: Any) -> None:
    assert _run(client, "echo hello") == b"hello"


def test_many_channels_carry_much_data_at_one_time(client: Any) -> None:
    data = {number: os.urandom(200_000 + number) for number in range(8)}
    said: dict[int, bytes] = {}

    def ask(number: int) -> None:
        said[number] = _run(client, "sha256", data[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in data]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert said == {number: hashlib.sha256(each).hexdigest().encode() for number, each in data.items()}


def test_keys_are_exchanged_anew_in_mid_stream(client: Any) -> None:
    client.renegotiate_keys()
    assert _run(client, "echo after") == b"after"


def test_a_wrong_password_is_refused(ends: Callable[..., tuple[Pipe, Pipe]], key: Any) -> None:
    near, far = ends()
    server, client = paramiko.Transport(far.socket()), paramiko.Transport(near.socket())
    try:
        server.add_server_key(key)
        server.start_server(event=threading.Event(), server=_Server())
        client.start_client(timeout=20)
        with pytest.raises(paramiko.AuthenticationException):
            client.auth_password("me", "wrong")
    finally:
        client.close()
        server.close()
        client.join(10)
        server.join(10)


def test_both_end_when_the_pipe_does(ends: Callable[..., tuple[Pipe, Pipe]], key: Any) -> None:
    near, far = ends()
    server, client = paramiko.Transport(far.socket()), paramiko.Transport(near.socket())
    try:
        server.add_server_key(key)
        server.start_server(event=threading.Event(), server=_Server())
        client.start_client(timeout=20)
        far.close()
        client.join(20)
        server.join(20)
        assert not client.is_active()
        assert not server.is_active()
    finally:
        client.close()
        server.close()
