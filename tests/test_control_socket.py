"""Whatever comes over the control socket, the base goes on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from support import Guest, datagram, descriptors, eventually, examples

import vnet
from vnet import Verdict, _native

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(named: vnet.Lan, runtime_directory: Path) -> Iterator[Connect]:
    opened: list[socket.socket] = []

    def make() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(runtime_directory / "vnet" / "office.sock"))
        opened.append(connection)
        return connection

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def traffic(named: vnet.Lan) -> Iterator[None]:
    """Two NICs that exchange datagrams all the while, and an attach and a detach that take under a second."""
    a, b = named.attach("a"), named.attach("b")
    data = datagram(a.address, b.address)
    stop = threading.Event()
    failures: list[BaseException] = []
    rounds = [0, 0]

    def exchange() -> None:
        try:
            while not stop.is_set():
                assert a.send(data) is Verdict.DELIVERED
                assert b.recv(timeout=1) == data
                rounds[0] += 1
                time.sleep(0.0005)
        except BaseException as error:
            failures.append(error)

    def come_and_go() -> None:
        try:
            while not stop.is_set():
                started = time.monotonic()
                vnet.attach("office", "visitor").close()
                assert time.monotonic() - started < 1
                rounds[1] += 1
                time.sleep(0.02)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=each) for each in (exchange, come_and_go)]
    for thread in threads:
        thread.start()
    yield
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert all(rounds)


def _request(**fields: object) -> bytes:
    return json.dumps({"abi": _native.ABI, **fields}).encode() + b"\n"


def _replies(connection: socket.socket) -> list[dict[str, object]]:
    """All that the base says until it closes the connection, or for half a second."""
    connection.settimeout(0.5)
    data = b""
    with contextlib.suppress(OSError):
        while more := connection.recv(65_536):
            data += more
    return [json.loads(line) for line in data.splitlines()]


def _fine(named: vnet.Lan) -> None:
    with vnet.attach("office", "probe") as probe:
        assert probe.send(datagram(probe.address, probe.address)) is Verdict.DELIVERED
        assert probe.recv(timeout=1)
    assert eventually(lambda: "probe" not in named.nics)


WRONG = [
    b"\n",
    b"{\n",
    b"null\n",
    b"[]\n",
    b'"attach"\n',
    b"{}\n",
    b"\0\n",
    b"\xff\xff\xff\n",
    b'{"do": 5}\n',
    b'{"do": "attach"}\n',
    b'{"do": null, "abi": 1}\n',
    b"[" * 5000 + b"]" * 5000 + b"\n",
    b'{"a":' * 2500 + b"1" + b"}" * 2500 + b"\n",
    b'{"abi": 1' + b"0" * 10_000 + b"}\n",
    b"9" * 10_000 + b"\n",
    b"NaN\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    _request(do="fly"),
    _request(do="attach"),
    _request(do="attach", nic=5),
    _request(do="attach", nic=None),
    _request(do="attach", nic=["a"]),
    _request(do="attach", nic=""),
    _request(do="attach", nic="../../etc"),
    _request(do="attach", nic="a" * 10_000),
    _request(do="attach", nic="\ud800"),
    _request(do="attach", nic="x", addresses="10.0.0.9"),
    _request(do="attach", nic="x", addresses=[5]),
    _request(do="attach", nic="x", addresses=[]),
    _request(do="attach", nic="x", addresses=["10.0.0.9"] * 900),
    _request(do="attach", nic="x", addresses={"a": 1}),
    _request(do="attach", nic="x", network=5),
    _request(do="attach", nic="x", network="none"),
    _request(do="attach", nic="x", network=[]),
    _request(do="detach"),
    _request(do=["attach"]),
    _request(do={"attach": 1}),
]


@pytest.mark.parametrize("request_", WRONG, ids=lambda request: repr(request[:30]))
def test_a_wrong_request_gets_one_error_and_a_closed_connection(
    named: vnet.Lan, connect: Connect, request_: bytes
) -> None:
    connection = connect()
    connection.sendall(request_ + _request(do="describe"))
    replies = _replies(connection)
    assert [reply["ok"] for reply in replies] == [False]
    assert isinstance(replies[0]["message"], str)
    assert isinstance(replies[0]["error"], str)
    assert getattr(vnet, str(replies[0]["error"]), ValueError) in (*vars(vnet).values(), ValueError)
    assert not named.nics
    _fine(named)


def test_a_request_may_come_in_pieces(connect: Connect) -> None:
    connection = connect()
    for byte in _request(do="describe"):
        connection.sendall(bytes([byte]))
    assert json.loads(connection.makefile().readline())["lan"] == "office"


def test_requests_may_come_together(connect: Connect) -> None:
    connection = connect()
    connection.sendall(_request(do="describe") * 50)
    assert [reply["ok"] for reply in _replies(connection)] == [True] * 50


def test_a_lease_is_for_one_nic(named: vnet.Lan, connect: Connect) -> None:
    connection = connect()
    connection.sendall(_request(do="attach", nic="a") + _request(do="attach", nic="b"))
    assert [reply["ok"] for reply in _replies(connection)] == [True, False]
    assert eventually(lambda: not named.attached("a"))
    assert "b" not in named.nics


def test_half_a_request_is_refused_in_time_and_harms_nobody(
    named: vnet.Lan, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnet.control._PATIENCE", 0.3)
    halves = [connect() for _ in range(5)]
    for each in halves:
        each.sendall(b'{"do": "att')
    _fine(named)
    for each in halves:
        assert "0 s" in str(json.loads(each.makefile().readline())["message"])


def test_a_request_without_an_end_is_refused(named: vnet.Lan, connect: Connect) -> None:
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        connect().sendall(bytes(100 << 20))
    _fine(named)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3000))
def test_random_bytes_never_stop_the_base(connect: Connect, data: bytes) -> None:
    with connect() as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        # It is the base that hangs up.
        while connection.recv(65_536):
            pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.fixed_dictionaries(
        {
            "abi": st.just(_native.ABI) | json_values,
            "do": st.sampled_from(["attach", "detach", "describe"]) | json_values,
        },
        optional={"nic": st.just("x") | json_values, "addresses": json_values, "network": st.just("lan") | json_values},
    )
)
def test_json_of_any_shape_is_answered(named: vnet.Lan, connect: Connect, fields: dict[str, object]) -> None:
    with connect() as connection:
        connection.sendall(json.dumps(fields).encode() + b"\n")
        reply = json.loads(connection.makefile().readline())
        assert reply["ok"] is True or (reply["ok"] is False and "failed at this request" not in reply["message"])
    assert eventually(lambda: not named.attached("x"))


@pytest.mark.usefixtures("traffic")
def test_a_flood_of_connections_and_bytes_disturbs_nobody(
    named: vnet.Lan, connect: Connect, guest: Callable[..., Guest]
) -> None:
    before = len(descriptors())
    program = """
import random, socket
chance = random.Random(int(sys.argv[2]))
open_ = []
deadline = time.monotonic() + 2
count = 0
while time.monotonic() < deadline:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(sys.argv[1])
        describe = b'{"do": "describe", "abi": 1}\\n'
        connection.send(chance.choice([b"", b"x", b"{}\\n", chance.randbytes(1000), describe * 50]))
        count += 1
    except OSError:
        time.sleep(0.0005)
    open_.append(connection)
    if len(open_) > 200:
        open_.pop(chance.randrange(200)).close()
say(count)
"""
    path = f"{os.environ['XDG_RUNTIME_DIR']}/vnet/office.sock"
    floods = [guest(program, path, str(number)) for number in range(2)]
    assert sum(int(flood.hear()) for flood in floods) > 1000
    for flood in floods:
        assert flood.end()[0] == 0
    assert eventually(lambda: len(descriptors()) <= before + 12), descriptors()


@pytest.mark.usefixtures("traffic")
def test_clients_that_never_read_make_nobody_wait(named: vnet.Lan, connect: Connect) -> None:
    nics = [named.attach(f"n{number}") for number in range(200)]
    before = len(descriptors())
    silent = [connect() for _ in range(20)]
    for each in silent:
        each.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                each.send(_request(do="describe") * 100)
    started = time.monotonic()
    while time.monotonic() < started + 1:
        _fine(named)
    # One that reads at last gets what it asked for, whole.
    silent[0].settimeout(5)
    lines = silent[0].makefile("rb")
    for _ in range(100):
        assert len(json.loads(lines.readline())["nics"]) >= len(nics)
    lines.close()
    for each in silent:
        each.close()
    assert eventually(lambda: len(descriptors()) < before + 15)


@pytest.mark.usefixtures("traffic")
def test_connections_that_stay_open_do_not_keep_others_out(named: vnet.Lan, connect: Connect) -> None:
    idle = [connect() for _ in range(300)]
    for _ in range(20):
        _fine(named)
    # The oldest had to go; the youngest are still there.
    assert idle[0].recv(1) == b""
    idle[-1].sendall(_request(do="describe"))
    assert json.loads(idle[-1].makefile().readline())["ok"]


def test_a_leased_connection_that_talks_nonsense_loses_its_nic(named: vnet.Lan, connect: Connect) -> None:
    connection = connect()
    connection.sendall(_request(do="attach", nic="a"))
    assert eventually(lambda: named.attached("a"))
    connection.sendall(b"nonsense\n")
    assert eventually(lambda: not named.attached("a"))
    _fine(named)


def test_descriptors_that_a_client_sends_are_not_kept(named: vnet.Lan, connect: Connect) -> None:
    before = descriptors()
    connection = connect()
    with open(os.devnull) as file:
        for _ in range(20):
            socket.send_fds(connection, [_request(do="describe")], [file.fileno()] * 50)
    assert connection.makefile().readline()
    time.sleep(0.05)
    assert len([what for what in descriptors().values() if what == os.devnull]) == len(
        [what for what in before.values() if what == os.devnull]
    )


def test_a_client_that_goes_in_the_middle_leaves_nothing(named: vnet.Lan, guest: Callable[..., Guest]) -> None:
    before = len(descriptors())
    client = guest("""
import json, random, socket
chance = random.Random(1)
path = os.environ["XDG_RUNTIME_DIR"] + "/vnet/office.sock"
request = json.dumps({"do": "attach", "abi": vnet._native.ABI, "nic": "a"}).encode() + b"\\n"
for _ in range(300):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(request[:chance.randrange(len(request) + 1)])
""")
    assert client.end() == (0, "", "")
    assert eventually(lambda: not named.attached("a"))
    assert eventually(lambda: len(descriptors()) <= before)
    _fine(named)


def test_a_guest_that_drops_one_nic_after_the_other_costs_the_base_no_descriptors(
    named: vnet.Lan, guest: Callable[..., Guest]
) -> None:
    before = len(descriptors())
    client = guest("""
for number in range(100):
    nic = vnet.attach("office", f"a{number}")
say("done")
hear()
""")
    assert client.hear() == "done"
    # The pipes to the guest, and its last NIC.
    assert eventually(lambda: len(descriptors()) <= before + 3 + 3)
