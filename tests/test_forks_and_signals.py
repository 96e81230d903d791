"""Forks, pickles and Ctrl-C, each in a process of its own."""

from __future__ import annotations

import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Guest, descriptors, eventually

import vnet

Start = Callable[..., Guest]

_FULL = """
with vnet.Lan(None, "10.0.0.0/24") as lan:
    a, b = lan.attach("a"), lan.attach("b", buffer=1)
    large = datagram("10.0.0.1", "10.0.0.2", bytes(60_000))
    def fill():
        while a.send(large) is vnet.Verdict.DELIVERED:
            pass
    {setup}
    say("ready")
    try:
        {call}
        say("returned")
    except KeyboardInterrupt:
        say("interrupted")
    # Everything works as before.
    while True:
        try:
            b.recv_many(timeout=0)
        except vnet.ReceiveTimeout:
            break
    assert a.send(large) is vnet.Verdict.DELIVERED
    assert b.recv(timeout=1) == large
    say("works")
"""


@pytest.mark.parametrize(
    ("setup", "call"),
    [
        ("pass", "b.recv()"),
        ("pass", "b.recv_many(timeout=60)"),
        ("pass", "b.recv_view()"),
        ("b.fileno()", "b.recv()"),
        ("fill()", "a.send(large, block=True)"),
        ("fill()", "a.send_many([large, large], block=True, timeout=60)"),
        ("fill()", "lan.inject('a', [large], block=True)"),
        ("h = lan.host('h')", "h.ping('10.0.0.1', count=60_000, timeout=60)"),
        ("lan.reserve('r')", "lan.wait_attached('r')"),
    ],
)
def test_ctrl_c_ends_a_wait_at_once(guest: Start, setup: str, call: str) -> None:
    process = guest(_FULL.format(setup=setup, call=call))
    assert process.hear() == "ready"
    time.sleep(0.03)
    started = time.monotonic()
    process.process.send_signal(signal.SIGINT)
    assert process.hear() == "interrupted"
    assert time.monotonic() - started < 0.2
    assert process.hear() == "works"
    assert process.end() == (0, "", "")


def test_a_signal_with_a_handler_does_not_end_a_wait(guest: Start) -> None:
    process = guest("""
signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
with vnet.Lan(None, "10.0.0.0/24") as lan:
    a, b = lan.attach("a"), lan.attach("b")
    signal.signal(signal.SIGUSR2, lambda *_: a.send(datagram("10.0.0.1", "10.0.0.2")))
    say("ready")
    say(len(b.recv()))
""")
    process.hear()
    for _ in range(3):
        time.sleep(0.01)
        process.process.send_signal(signal.SIGUSR1)
        assert process.hear() == "handled"
    process.process.send_signal(signal.SIGUSR2)
    assert process.hear() == "20"
    assert process.end() == (0, "", "")


_FORK = """
def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    for _ in range(500):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0, status
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")

def refuses(error, *calls):
    for call in calls:
        try:
            call()
        except error:
            continue
        raise AssertionError(f"{call} went through")
"""


def test_a_forked_child_cannot_use_the_nics_of_its_parent_and_the_parent_can(guest: Start, named: vnet.Lan) -> None:
    process = guest(
        _FORK
        + """
with vnet.Lan("mine", "10.0.0.0/24") as lan:
    a, b = lan.attach("a"), lan.attach("b")
    c = vnet.attach("office", "c")
    b.fileno()
    data = datagram("10.0.0.1", "10.0.0.2", bytes(70))
    a.send_many([data] * 3)
    view = b.recv_view(timeout=1)
    def child():
        for nic in (a, b, c):
            refuses(vnet.ForkedNic, lambda: nic.send(data), lambda: nic.send_many([data]), lambda: nic.recv(timeout=0),
                    lambda: nic.recv_many(timeout=0), lambda: nic.recv_view(timeout=0), nic.fileno,
                    lambda: nic.send(data, block=True))
        refuses(vnet.ForkedNic, lambda: lan.attach("x"), lambda: lan.host("x"), lambda: lan.reserve("x"))
        view.release()
        for nic in (a, b, c):
            nic.close()
            nic.close()
        lan.close()
        # Of its own it may have all it wants: the parent's LAN by its name among it.
        with vnet.attach("mine", "child") as own:
            assert own.send(datagram(own.address, "10.0.0.1", b"from the child")) is vnet.Verdict.DELIVERED
    in_child(child)
    assert a.recv(timeout=1)[20:] == b"from the child"
    assert bytes(view) == data
    view.release()
    assert b.recv_many(timeout=0) == [data] * 2
    a.send(data)
    assert b.recv(timeout=1) == data
    assert c.send(datagram(c.address, c.address)) is vnet.Verdict.DELIVERED
    assert sorted(lan.nics) in (["a", "b"], ["a", "b", "child"])
    c.close()
say("done")
"""
    )
    assert process.hear() == "done"
    assert process.end() == (0, "", "")


def test_a_child_that_ends_in_an_ordinary_way_takes_nothing_with_it(guest: Start, tmp_path: Path) -> None:
    """It collects its copies of everything: LAN with worker and guests, host, capture, NICs with a dispatcher."""
    process = guest(
        """
lan = vnet.Lan("mine", "10.0.0.0/24")
host, nic = lan.host("host"), lan.attach("nic")
nic.fileno()
other = vnet.attach("mine", "other")
capture = lan.capture(sys.argv[1])
pid = os.fork()
if pid == 0:
    del lan, host, nic, other, capture
    gc.collect()
    sys.exit(0)
for _ in range(500):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        break
    time.sleep(0.01)
say("child", ended == pid, status)
assert host.ping(nic.address, timeout=0.01).sent == 1
assert len(nic.recv(timeout=1)) == 84
assert other.send(datagram(other.address, nic.address)) is vnet.Verdict.DELIVERED
assert len(nic.recv(timeout=1)) == 20
before = time.process_time()
time.sleep(0.3)
say("idle", time.process_time() - before < 0.1)
capture.close()
say("captured", capture.datagrams)
lan.close()
""",
        f"{tmp_path}/c.pcapng",
    )
    assert process.hear() == "child True 0"
    assert process.hear() == "idle True"
    assert process.hear() == "captured 2"
    assert process.end() == (0, "", "")


def test_a_fork_says_nothing_whatever_was_closed_before(guest: Start) -> None:
    process = guest(
        _FORK
        + """
lan = vnet.Lan("one", "10.0.0.0/24")
lan.close()
in_child(lambda: None)
with vnet.Lan("two", "10.0.0.0/24") as second:
    in_child(lambda: in_child(lambda: in_child(gc.collect)))
"""
    )
    assert process.end() == (0, "", "")


def test_a_child_does_not_keep_the_lan_of_a_dead_parent_alive(guest: Start) -> None:
    base = guest("""
lan = vnet.Lan("short", "10.0.0.0/24")
say("up")
hear()
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
say("forked")
time.sleep(30)
""")
    assert base.hear() == "up"
    nic = vnet.attach("short", "guest")
    base.say()
    assert base.hear() == "forked"
    base.kill()
    started = time.monotonic()
    with pytest.raises(vnet.LanClosed):
        nic.recv(timeout=5)
    assert time.monotonic() - started < 0.2
    with pytest.raises(vnet.LanNotFound):
        vnet.attach("short", "another")
    with vnet.Lan("short", "10.0.0.0/24"):
        pass
    nic.close()


def test_a_guest_that_dies_beside_a_forked_child_of_the_base_costs_the_base_nothing(guest: Start) -> None:
    base = guest("""
lan = vnet.Lan("office", "10.0.0.0/24")
say("up")
hear()
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
say("forked")
hear()
assert not lan.attached("guest")
before = time.process_time()
time.sleep(0.3)
say("idle", time.process_time() - before < 0.1)
os.kill(child, signal.SIGKILL)
lan.close()
""")
    base.hear()
    other = guest('nic = vnet.attach("office", "guest"); say("up"); hear()')
    other.hear()
    base.say()
    assert base.hear() == "forked"
    other.kill()
    time.sleep(0.1)
    base.say()
    assert base.hear() == "idle True"
    assert base.end() == (0, "", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_by_name(guest: Start, method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import multiprocessing, sys, vnet

def work(number):
    with vnet.attach("pool", f"worker{{number}}") as nic:
        assert nic.send(bytes([0x45, *[0] * 15, 10, 0, 0, 1, number])) is vnet.Verdict.DELIVERED

if __name__ == "__main__":
    with vnet.Lan("pool", "10.0.0.0/24") as lan:
        boss = lan.attach("boss")
        context = multiprocessing.get_context("{method}")
        workers = [context.Process(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        print(sorted(boss.recv(timeout=20)[20] for _ in workers))
        for worker in workers:
            worker.join(10)
            assert worker.exitcode == 0
""")
    process = guest(
        "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
        if method == "fork"
        else """
import subprocess
sys.stdout.write(subprocess.run([sys.executable, sys.argv[1]], capture_output=True, text=True, check=True).stdout)
""",
        program,
    )
    assert process.end() == (0, "[0, 1, 2]\n", "")


def test_nics_lans_and_hosts_say_why_they_cannot_be_pickled(lan: vnet.Lan) -> None:
    with pytest.raises(TypeError, match=r"vnet\.attach"):
        pickle.dumps(lan.attach("a"))
    with pytest.raises(TypeError, match=r"vnet\.attach"):
        pickle.dumps(lan)


def test_errors_verdicts_and_results_can_be_pickled(lan: vnet.Lan) -> None:
    host = lan.host("h")
    for each in (vnet.Verdict.NO_HOST, vnet.AddressTaken("it is"), host.ping(host.address), lan.nics["h"]):
        assert str(pickle.loads(pickle.dumps(each))) == str(each)


def test_programs_started_by_a_guest_get_none_of_its_descriptors(guest: Start, named: vnet.Lan) -> None:
    process = guest("""
import subprocess
nic = vnet.attach("office", "guest")
nic.fileno()
with vnet.Lan("own", "10.0.0.0/24") as lan:
    a = lan.attach("a")
    child = subprocess.Popen(["sleep", "10"], close_fds=False)
    say(child.pid)
    hear()
    child.kill()
    child.wait()
nic.close()
""")
    pid = int(process.hear())
    assert eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    assert not [what for what in descriptors(pid).values() if "vnet" in what or "socket" in what or "event" in what]
    process.say()
    assert process.end() == (0, "", "")
