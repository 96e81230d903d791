"""Callers and services killed at any moment: everybody else hears of it at once, and nothing is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from rpc_support import Ram, Store
from support import Guest, eventually

import vnet

_SERVER = """
sys.path.insert(0, sys.argv[1])
from rpc_support import Ram, Store
with vnet.attach("office", "host") as nic, nic.serve_calls("store", Ram(), Store) as served:
    say("serving")
    served.wait()
    say("over")
"""

_CALLER = """
sys.path.insert(0, sys.argv[1])
from rpc_support import Store
from vnet.rpc import start
with vnet.attach("office", "eve") as nic, nic.caller("host", "store", Store) as store:
    waiting = start(store.wait, 600.0)
    stream = store.count(1 << 40)
    next(stream)
    say("calling")
    while True:
        store.echo([1, b"x" * 1000])
"""


@pytest.fixture
def here() -> str:
    return __file__.rpartition("/")[0]


def test_a_killed_service_is_gone_at_once_for_those_that_wait(
    named: vnet.Lan, guest: Callable[..., Guest], here: str
) -> None:
    server = guest(_SERVER, here)
    assert server.hear() == "serving"
    a = named.attach("a")
    with a.caller("host", "store", Store) as store, ThreadPoolExecutor(4) as pool:
        assert store.read(3) == b"\3\3\3\3"
        waiting = [pool.submit(store.wait, 600.0) for _ in range(3)]
        stream = store.count(1 << 40)
        assert next(stream) == bytes(8)
        time.sleep(0.2)
        before = time.monotonic()
        server.kill()
        for each in waiting:
            with pytest.raises(vnet.ServiceGone, match="is gone: its process ended"):
                each.result(10.0)
        assert time.monotonic() - before < 2.0
        with pytest.raises(vnet.ServiceGone):
            store.read(3)
        with pytest.raises(vnet.ServiceGone):
            list(stream)
        # A clean start of another, under the same name.
        again = guest(_SERVER, here)
        assert again.hear() == "serving"
        with a.caller("host", "store", Store, connect_timeout=10.0) as new:
            assert new.read(4) == b"\4\4\4\4"
        with pytest.raises(ConnectionError):
            store.read(3)


def test_a_killed_caller_has_its_calls_cancelled_and_its_generators_closed(
    named: vnet.Lan, guest: Callable[..., Guest], here: str
) -> None:
    ram = Ram()
    host, b = named.attach("host"), named.attach("b")
    with host.serve_calls("store", ram, Store) as served, b.caller("host", "store", Store) as other:
        for turn in range(3):
            ram.given_up.clear()
            ram.closed.clear()
            ram.asked.clear()
            eve = guest(_CALLER, here)
            assert eve.hear() == "calling"
            assert other.read(turn) == bytes([turn]) * 4
            # One that has not begun is not begun any more.
            assert eventually(lambda: ("wait", 600.0) in ram.asked)
            eve.kill()
            assert ram.given_up.wait(5.0)
            assert ram.closed.wait(5.0)
            assert other.read(turn) == bytes([turn]) * 4
            assert eventually(lambda: served.callers == ["b"])
        assert served.under_way == 0


def test_a_service_ends_with_the_lan_where_it_waits_for_that(guest: Callable[..., Guest], here: str) -> None:
    with vnet.Lan("office", "10.0.0.0/24"):
        server = guest(_SERVER, here)
        assert server.hear() == "serving"
    assert server.hear() == "over"
    assert server.end()[0] == 0


def test_a_pipe_outlives_the_base_and_calls_go_on(guest: Callable[..., Guest], here: str) -> None:
    lan = vnet.Lan(None, "10.0.0.0/24")
    host, a = lan.attach("host"), lan.attach("a")
    with host.serve_calls("store", Ram(), Store), a.caller("host", "store", Store) as store:
        lan.close()
        assert store.read(3) == b"\3\3\3\3"
        with pytest.raises((vnet.LanClosed, vnet.NicClosed)):
            a.caller("host", "store", Store)


def test_a_forked_child_cannot_use_its_parents_callers(named: vnet.Lan, guest: Callable[..., Guest], here: str) -> None:
    with named.attach("host").serve_calls("store", Ram(), Store):
        program = """
sys.path.insert(0, sys.argv[1])
from rpc_support import Store
with vnet.attach("office", "eve") as nic, nic.caller("host", "store", Store) as store:
    store.read(1)
    child = os.fork()
    if child == 0:
        try:
            store.read(2)
        except vnet.ForkedNic:
            os._exit(7)
        os._exit(1)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    say(store.read(3) == bytes([3]) * 4)
"""
        eve = guest(program, here)
        assert (eve.hear(), eve.hear()) == ("7", "True")
        assert eve.end()[0] == 0


def test_a_call_answers_ctrl_c_and_tells_the_service(named: vnet.Lan, guest: Callable[..., Guest], here: str) -> None:
    ram = Ram()
    with named.attach("host").serve_calls("store", ram, Store):
        program = """
sys.path.insert(0, sys.argv[1])
from rpc_support import Store
with vnet.attach("office", "eve") as nic, nic.caller("host", "store", Store) as store:
    say("calling")
    try:
        store.wait(600.0)
    except KeyboardInterrupt:
        say(store.read(3) == bytes([3]) * 4)
"""
        eve = guest(program, here)
        assert eve.hear() == "calling"
        assert eventually(lambda: ram.asked, timeout=10.0)
        eve.process.send_signal(2)
        assert eve.hear() == "True"
        assert ram.given_up.wait(5.0)
        assert eve.end()[0] == 0
        assert threading.main_thread().is_alive()
