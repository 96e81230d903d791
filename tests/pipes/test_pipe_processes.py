"""Services and those who connect, in processes of their own: deaths, forks, and what the base keeps to."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator

import pytest
import support
from refusing import message_of

import vnet
import vnet.pipes

Guests = tuple[vnet.Nic, vnet.Nic]


@pytest.fixture
def guests(lan: vnet.Lan) -> Iterator[Guests]:
    with lan.attach("host") as host, lan.attach("a") as a:
        yield host, a


def test_each_error_of_connecting_reaches_another_process(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    with named.attach("host") as host, host.listen("busy", backlog=1), host.listen("closed", guests=["x"]):
        host.listen("gone").close()
        other = guest(
            """
nic = vnet.attach("office", "b")
mine = nic.listen("mine")
first = nic.connect("host", "busy")
for peer, service, options in [
    ("host", "none", {}), ("nobody", "none", {}), ("host", "busy", {}), ("host", "gone", {}), ("host", "closed", {}),
    ("host", "x y", {}), ("host", "busy", {"size": 1}),
]:
    try:
        nic.connect(peer, service, **options)
    except Exception as error:
        say(type(error).__name__, str(error))
try:
    nic.listen("mine")
except Exception as error:
    say(type(error).__name__, str(error))
os._exit(0)
"""
        )
        expected = ["ServiceNotFound", "ServiceNotFound", "ServiceBusy", "ServiceGone", "NotPermitted"]
        expected += ["ValueError", "ValueError", "NameTaken"]
        assert [other.hear().split()[0] for _ in expected] == expected


def test_guests_of_two_processes_talk_past_the_base(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    server = guest(
        """
nic = vnet.attach("office", "server")
with nic.listen("echo") as listener:
    say("listens")
    with listener.accept() as pipe:
        while data := pipe.read(1 << 16):
            pipe.write(data)
        say(pipe.peer)
nic.close()
"""
    )
    assert server.hear() == "listens"
    client = guest(
        """
nic = vnet.attach("office", "client")
with nic.connect("server", "echo") as pipe:
    data = os.urandom(3_000_000)
    threading.Thread(target=lambda: (pipe.write(data), pipe.shut_write())).start()
    say(pipe.read() == data)
nic.close()
"""
    )
    assert client.hear() == "True"
    assert server.hear() == "client"
    assert (client.end()[0], server.end()[0]) == (0, 0)
    assert vnet.pipes.services(named) == []


def test_two_programs_of_one_guest_do_not_end_one_anothers_services(
    named: vnet.Lan, guest: Callable[..., support.Guest]
) -> None:
    # Both go by the guest's name; what each listens for is its own.
    other = guest(
        """
nic = vnet.attach("office", "b")
with vnet.member("office", "b") as member, member.listen("disk") as listener:
    nic._door().ask("service.unlisten", service="disk")
    try:
        nic.listen("disk")
    except vnet.NameTaken:
        say("taken")
    with nic.connect("b", "disk") as pipe, listener.accept(10) as far:
        say(pipe.peer, far.peer)
    member.close()
    with nic.listen("disk"):
        say("free")
nic.close()
"""
    )
    assert [other.hear() for _ in range(3)] == ["taken", "b b", "free"]
    assert other.end()[0] == 0


def test_the_operator_connects_from_any_process(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    with named.attach("host") as host, host.listen("disk", guests=[]) as listener:
        other = guest(
            """
import vnet.pipes
with vnet.pipes.connect_operator("office", "host", "disk") as pipe:
    pipe.write(b"it is me")
    say(json.dumps([pipe.peer, pipe.guest])) if (json := __import__("json")) else None
    say(vnet.pipes.services("office")[0]["service"])
"""
        )
        assert json.loads(other.hear()) == ["host", None]
        assert other.hear() == "disk"
        with listener.accept(10) as pipe:
            assert pipe.peer is None
            assert pipe.read() == b"it is me"
            assert "an operator" in repr(pipe)
        assert other.end()[0] == 0


def test_a_service_of_a_process_that_dies_is_gone_at_once(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    server = guest(
        """
nic = vnet.attach("office", "server")
listener = nic.listen("disk")
say("listens")
hear()
"""
    )
    assert server.hear() == "listens"
    with named.attach("a") as a, a.connect("server", "disk") as pipe:
        server.kill()
        assert support.eventually(lambda: not vnet.pipes.services(named))
        message_of(lambda: a.connect("server", "disk"), vnet.ServiceGone)
        with pytest.raises(ConnectionResetError):
            pipe.read(1)
        # And can be there again, under the same name.
        again = guest(
            """
nic = vnet.attach("office", "server")
with nic.listen("disk") as listener, listener.accept() as pipe:
    pipe.write(b"back")
nic.close()
"""
        )
        with a.connect("server", "disk", timeout=20) as pipe:
            assert pipe.read() == b"back"
        assert again.end()[0] == 0


def test_guests_learn_that_the_base_has_died(guest: Callable[..., support.Guest]) -> None:
    base = guest(
        """
lan = vnet.Lan("mortal", "10.0.0.0/24")
say("up")
hear()
if os.fork() == 0:
    # Whoever it leaves behind holds nothing that others wait for the end of.
    say("forked")
    sys.stdin.read()
    os._exit(0)
os.wait()
"""
    )
    assert base.hear() == "up"
    with contextlib.ExitStack() as stack:
        host, a = (stack.enter_context(vnet.attach("mortal", name)) for name in ("host", "a"))
        listener = stack.enter_context(host.listen("disk"))
        near, far = stack.enter_context(a.connect("host", "disk")), stack.enter_context(listener.accept(10))
        base.say()
        assert base.hear() == "forked"
        base.kill()
        message_of(lambda: listener.accept(10), vnet.LanClosed)
        message_of(lambda: a.connect("host", "disk"), vnet.LanClosed)
        # What they say to one another never went through it.
        near.write(b"still here")
        assert far.read(100) == b"still here"


def test_a_forked_child_cannot_use_a_listener(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener:
        child = os.fork()
        if child == 0:
            forked = 0
            for act in (lambda: listener.accept(0), listener.fileno, lambda: host.listen("x"), listener.close):
                try:
                    act()
                except vnet.ForkedNic:
                    forked += 1
                except BaseException:
                    os._exit(100)
            os._exit(forked)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        with a.connect("host", "disk"), listener.accept(10):
            pass


def test_a_base_without_descriptors_says_so_and_goes_on(guest: Callable[..., support.Guest]) -> None:
    base = guest(
        """
import resource
with vnet.Lan(None, "10.0.0.0/24") as lan:
    host, a = lan.attach("host"), lan.attach("a")
    with host.listen("disk") as listener:
        a.connect("host", "disk").close()
        listener.accept(5).close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
        for act in (lambda: a.connect("host", "disk"), lambda: [host.listen(f"s{n}") for n in range(50)]):
            try:
                act()
            except vnet.LanFull as error:
                say(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with a.connect("host", "disk"), listener.accept(5):
            say("goes on")
"""
    )
    assert "cannot make a pipe of 1,048,576 bytes: " in base.hear()
    assert "cannot open a door for service 's" in base.hear()
    assert base.hear() == "goes on"


def test_too_few_descriptors_drop_one_pipe_and_no_more(named: vnet.Lan, guest: Callable[..., support.Guest]) -> None:
    server = guest(
        """
import resource
nic = vnet.attach("office", "server")
listener = nic.listen("disk")
say("listens")
hear()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
os.close(taken.pop())
try:
    listener.accept(5)
except OSError as error:
    say(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
with listener.accept(5) as pipe:
    say(pipe.read(10).decode())
listener.close()
nic.close()
"""
    )
    assert server.hear() == "listens"
    with named.attach("a") as a, a.connect("server", "disk") as first, a.connect("server", "disk") as second:
        second.write(b"second")
        server.say()
        assert "too many open files" in server.hear()
        assert server.hear() == "second"
        with pytest.raises(ConnectionResetError):
            first.read(1)
        assert server.end()[0] == 0
