"""vnet call: what the words of a shell become, what comes back, and what is refused."""

from __future__ import annotations

import base64
import datetime
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from support import eventually

import vnet
from vnet.rpc import current_call

VNET = [sys.executable, "-W", "error", "-m", "vnet"]


@dataclass
class Point:
    x: int
    y: float = 0.5


class Store(Protocol):
    """Values by key."""

    def get(self, key: str) -> int:
        """The value of a key.

        KeyError where there is none.
        """

    def put(self, key: str, value: int = 1, *, times: int = 1) -> dict[str, int]: ...

    def reverse(self, data: bytes) -> bytes: ...

    def count(self, to: int, pause: float = 0.0) -> Iterator[int]: ...

    def move(self, point: Point, when: datetime.date | None = None) -> Point: ...

    def wait(self, seconds: float) -> bool: ...

    def caller(self) -> str | None: ...


class Values:
    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.given_up = threading.Event()

    def get(self, key: str) -> int:
        return self.values[key]

    def put(self, key: str, value: int = 1, *, times: int = 1) -> dict[str, int]:
        self.values[key] = value * times
        return {key: self.values[key]}

    def reverse(self, data: bytes) -> bytes:
        return data[::-1]

    def count(self, to: int, pause: float = 0.0) -> Iterator[int]:
        try:
            for number in range(to):
                time.sleep(pause)
                yield number
        finally:
            self.given_up.set()

    def move(self, point: Point, when: datetime.date | None = None) -> Point:
        return Point(point.x + (when.day if when else 1), point.y)

    def wait(self, seconds: float) -> bool:
        if current_call().wait_cancelled(seconds):
            self.given_up.set()
        return True

    def caller(self) -> str | None:
        return current_call().guest


@pytest.fixture
def values(named: vnet.Lan) -> Iterator[Values]:
    """What ``host`` serves as ``store`` on the LAN office."""
    served = Values()
    with named.attach("host") as host, named.attach("alice"), host.serve_calls("store", served, Store):
        yield served


def types(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*VNET, "call", "office", *words], input=data, capture_output=True, timeout=60, check=False)


def gives(*words: str, data: bytes = b"") -> bytes:
    """What ``vnet call office host store WORDS`` prints, which succeeds and has nothing to complain of."""
    done = types("host", "store", *words, data=data)
    assert (done.returncode, done.stderr) == (0, b""), (words, done)
    return done.stdout


def test_words_are_values_by_place_or_by_name(values: Values) -> None:
    assert json.loads(gives("put", "a", "7")) == {"a": 7}
    assert json.loads(gives("put", "times=3", "key=b")) == {"b": 3}
    # Text where text is wanted, whatever it looks like.
    gives("put", "12", "5")
    assert values.values == {"a": 7, "b": 3, "12": 5}
    assert gives("get", "12") == b"5\n"
    assert gives("put", "--", "a", "-4") == b'{"a": -4}\n'


def test_structures_and_dates_are_as_in_json(values: Values) -> None:
    assert json.loads(gives("move", '{"x": 1}', "2024-02-29")) == {"x": 30, "y": 0.5}


def test_bytes_go_in_from_files_and_come_out_as_they_are(values: Values, tmp_path: Path) -> None:
    data = bytes(range(256))
    (tmp_path / "data").write_bytes(data)
    assert gives("reverse", f"@{tmp_path / 'data'}") == data[::-1]
    assert gives("reverse", "-", data=data) == data[::-1]
    assert gives("reverse", "text:abc") == b"cba"
    done = types("host", "store", "reverse", base64.b64encode(data).decode(), "--json")
    assert base64.b64decode(json.loads(done.stdout)["result"]) == data[::-1]


def test_bytes_on_a_terminal_are_digits_unless_they_are_text(values: Values) -> None:
    def on_terminal(*words: str) -> bytes:
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [*VNET, "call", "office", "host", "store", *words], stdin=theirs, stdout=theirs, timeout=60, check=False
        )
        os.close(theirs)
        shown = os.read(ours, 10_000)
        os.close(ours)
        assert done.returncode == 0
        return shown

    assert on_terminal("reverse", "text:abc") == b"cba\r\n"
    assert on_terminal("reverse", "hex:00ff41").startswith(b"00000000  41 ff 00 ")


def test_a_stream_is_printed_value_by_value(values: Values) -> None:
    assert gives("count", "3") == b"0\n1\n2\n"
    lines = [json.loads(line) for line in gives("count", "2", "--json").splitlines()]
    assert lines[:2] == [{"value": 0}, {"value": 1}]
    assert (lines[2]["format"], lines[2]["values"]) == (1, 2)


def test_the_shell_is_nobody_s_guest(values: Values) -> None:
    assert gives("caller") == b""
    assert json.loads(gives("caller", "--json"))["result"] is None


def test_without_a_method_it_says_what_there_is(values: Values) -> None:
    listed = gives().decode()
    assert listed.startswith("store of host: Store\n  Values by key.\n\n  get(key: str) -> int\n")
    assert "      KeyError where there is none.\n" in listed
    assert "count(to: int, pause: float = 0.0) -> Iterator[int]" in listed
    interface = json.loads(gives("--json"))["interface"]
    assert [method["name"] for method in interface["methods"]] == [
        name for name in vars(Store) if not name.startswith("_") and callable(getattr(Store, name))
    ]
    assert types().stdout.split()[-4:-1] == [b"host", b"store", str(os.getpid()).encode()]
    assert json.loads(types("--json").stdout)["services"] == [{"node": "host", "service": "store", "clients": None}]


def test_show_tells_what_the_guests_of_a_program_share(values: Values, named: vnet.Lan) -> None:
    with named.attach("bob") as bob, bob.create_region("64KiB", name="board", guests=["alice"], readonly=["alice"]):
        done = subprocess.run([*VNET, "show", "office"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "region board of bob, 64 KiB: alice (reads); attached by bob\n" in done.stdout
    assert (
        f"service store of host: listening, process {os.getpid()}, 0 connected so far; for everybody\n" in done.stdout
    )


REFUSED = {
    ("nobody", "store", "get", "a"): "no guest 'nobody' is on the LAN",
    ("hst", "store", "get", "a"): "did you mean 'host'?",
    ("alice", "store", "get", "a"): "guest 'alice' does not listen for service 'store'; 'host' listens for it",
    ("alice",): "'alice' serves nothing on 'office'; who does: host",
    ("host", "stor", "get", "a"): "it listens for 'store'",
    ("host", "store", "gte", "a"): "Store declares no method 'gte'; did you mean 'get'?",
    ("host", "store", "get"): "missing a required argument: 'key'; it takes get(key: str) -> int",
    ("host", "store", "get", "a", "b"): "'b' is one argument too many; it takes get(key: str) -> int",
    ("host", "store", "put", "a", "seven"): "argument 'value' is 'seven' (str): expected int",
    ("host", "store", "put", "a", "key=b"): "multiple values for argument 'key'",
    ("host", "store", "move", '{"x": "1"}'): "argument 'point'",
    ("host", "store", "reverse", "@/nowhere"): "No such file or directory",
    ("host", "store", "reverse", "not base 64"): "is none of base64, text:..., hex:..., @FILE and -",
    ("host", "store", "wait", "1", "--timeout", "soon"): "--timeout: expected a duration",
    ("host", "store", "wait", "1", "--timeout", "0s"): "--timeout is 1ms to 24h",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_cannot_be_called_is_one_sentence_and_exit_code_2(values: Values, words: tuple[str, ...]) -> None:
    done = types(*words)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), said
    assert len(said.splitlines()) == 1
    assert REFUSED[words] in said
    assert not values.values


def test_a_call_that_fails_is_exit_code_1_with_the_exception(values: Values) -> None:
    done = types("host", "store", "get", "nothing")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"vnet: host store get: KeyError: 'nothing'\n"
    done = types("host", "store", "get", "nothing", "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["message"]) == ("KeyError", "'nothing'")
    assert "self.values[key]" in error["traceback"]


def test_a_call_that_takes_too_long_is_given_up_at_the_service_too(values: Values) -> None:
    done = types("host", "store", "wait", "60", "--timeout", "200ms")
    assert done.returncode == 1
    assert b"CallTimeout" in done.stderr
    assert values.given_up.wait(10)


@pytest.mark.parametrize("words", [("wait", "60"), ("count", "1000", "0.1")], ids=" ".join)
def test_ctrl_c_ends_the_call_here_and_at_the_service(values: Values, words: tuple[str, ...]) -> None:
    command = [*VNET, "call", "office", "host", "store", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert eventually(lambda: any(each["connected"] for each in services()), 20.0)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, b"")
    assert values.given_up.wait(10)


def services() -> list[dict[str, Any]]:
    return vnet.pipes.services("office")


def test_a_service_that_dies_under_a_call_is_exit_code_1(named: vnet.Lan, guest: Any) -> None:
    program = (
        "import typing, time, vnet\n"
        "class Slow(typing.Protocol):\n  def wait(self) -> int: ...\n"
        "class Sleeper:\n  def wait(self): time.sleep(100)\n"
        "with vnet.attach('office', 'host') as nic, nic.serve_calls('slow', Sleeper(), Slow):\n"
        "  print('serving', flush=True)\n  time.sleep(100)\n"
    )
    server = guest(program)
    assert server.hear() == "serving"
    with subprocess.Popen([*VNET, "call", "office", "host", "slow", "wait"], stderr=subprocess.PIPE) as process:
        assert eventually(lambda: any(each["connected"] for each in services()), 20.0)
        time.sleep(0.3)
        server.process.kill()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith(b"vnet: host slow wait: ServiceGone: ")


def test_a_service_that_says_nothing_is_given_up(named: vnet.Lan) -> None:
    with named.attach("host") as host, host.listen("mute"):
        done = types("host", "mute", "--timeout", "300ms")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"'mute' of 'host' did not answer within 0.3 s; does it serve calls?" in done.stderr


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (("",), {"host"}),
        (("host", ""), {"store"}),
        (("host", "store", "c"), {"count", "caller"}),
        (("alice", ""), set()),
    ],
)
def test_the_shell_completes_who_serves_what_and_its_methods(
    values: Values, line: tuple[str, ...], offered: set[str]
) -> None:
    def offers() -> set[str]:
        done = subprocess.run(
            [*VNET, "_complete", "--", "call", "office", *line], capture_output=True, text=True, timeout=60, check=False
        )
        return {each.partition("\t")[0] for each in done.stdout.splitlines()}

    # A base that is slow to answer offers nothing.
    assert eventually(lambda: offers() == offered, 20.0)
