"""Who listens, who connects, who may, and what is said to those who cannot."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import os
import pickle
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import support
from refusing import message_of

import vnet
import vnet.pipes
from vnet.pipes import Listener

Guests = tuple[vnet.Nic, vnet.Nic]


@pytest.fixture
def guests(lan: vnet.Lan) -> Iterator[Guests]:
    with lan.attach("host") as host, lan.attach("a") as a:
        yield host, a


def test_each_knows_who_the_other_is(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener, a.connect("host", "disk") as near, listener.accept(10) as far:
        assert (near.service, near.peer, near.guest) == ("disk", "host", "a")
        assert (far.service, far.peer, far.guest) == ("disk", "a", "host")
        for each in ("disk", "host", "a"):
            assert each in repr(near)
            assert each in repr(far)
        assert "disk" in repr(listener)
        assert "host" in repr(listener)


def test_what_is_written_before_it_is_accepted_waits(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener:
        with a.connect("host", "disk") as pipe:
            pipe.write(b"early")
        with listener.accept(10) as far:
            assert far.read() == b"early"


def test_they_are_accepted_in_the_order_in_which_they_came(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener, contextlib.ExitStack() as stack:
        for number in range(10):
            stack.enter_context(a.connect("host", "disk")).write(b"%d" % number)
        assert [stack.enter_context(listener.accept(10)).read(10) for _ in range(10)] == [b"%d" % n for n in range(10)]


def test_the_one_who_connects_chooses_the_size(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener, a.connect("host", "disk", size=8192) as near, listener.accept(10) as far:
        assert near.size == far.size == 8192
        near.setblocking(False)
        far.setblocking(False)
        assert near.write(bytes(100_000)) == 8192
        assert far.write(bytes(100_000)) == 8192


def test_a_size_is_rounded_up_and_told(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener, a.connect("host", "disk", size=5000) as near, listener.accept(10) as far:
        assert near.size == far.size == 8192


def test_a_guest_connects_to_itself(guests: Guests) -> None:
    host, _ = guests
    with host.listen("disk") as listener, host.connect("host", "disk") as near, listener.accept(10) as far:
        near.write(b"to myself")
        assert far.read(100) == b"to myself"
        assert far.peer == near.peer == "host"


def test_built_in_hosts_are_guests_too(lan: vnet.Lan) -> None:
    server = lan.host("server")
    with lan.attach("a") as a:
        with server.listen("disk") as listener, a.connect("server", "disk") as near, listener.accept(10) as far:
            near.write(b"x")
            assert far.read(10) == b"x"
        with a.listen("disk") as listener, server.connect("a", "disk"), listener.accept(10) as far:
            assert far.peer == "server"


# Who is there


def test_a_service_that_is_not_there_is_told_with_those_that_are(guests: Guests) -> None:
    host, a = guests
    assert message_of(lambda: a.connect("host", "disk"), vnet.ServiceNotFound) == (
        "guest 'host' does not listen for service 'disk'; it listens for none"
    )
    with host.listen("disk"), host.listen("cache"):
        message = message_of(lambda: a.connect("host", "dist"), vnet.ServiceNotFound)
        assert message == (
            "guest 'host' does not listen for service 'dist'; it listens for 'cache' and 'disk' (did you mean 'disk'?)"
        )
        message = message_of(lambda: a.connect("hosst", "disk"), vnet.ServiceNotFound)
        assert "no guest 'hosst' is on the LAN" in message
        assert "'host' listens for it (did you mean 'host'?)" in message
        message = message_of(lambda: a.connect("a", "disk"), vnet.ServiceNotFound)
        assert "'host' listens for it" in message
        message = message_of(lambda: a.connect("hosst", "model"), vnet.ServiceNotFound)
        assert "the LAN has 'a' and 'host' (did you mean 'host'?)" in message


def test_a_service_that_has_ended_is_told_apart_from_one_that_never_was(lan: vnet.Lan, guests: Guests) -> None:
    _, a = guests
    other = lan.attach("other")
    other.listen("disk").close()
    assert "'other' listened for service 'disk'" in message_of(lambda: a.connect("other", "disk"), vnet.ServiceGone)
    with other.listen("disk"):
        # It is there again.
        a.connect("other", "disk").close()
        other.close()
        message_of(lambda: a.connect("other", "disk"), vnet.ServiceGone)
    with pytest.raises(ConnectionError):
        a.connect("other", "disk")


def test_waiting_for_a_service_ends_when_it_is_there(guests: Guests) -> None:
    host, a = guests
    listeners: list[Listener] = []
    threading.Timer(0.1, lambda: listeners.append(host.listen("late"))).start()
    with a.connect("host", "late", timeout=20) as pipe:
        assert pipe.peer == "host"
    listeners[0].close()
    began = time.monotonic()
    message_of(lambda: a.connect("host", "never", timeout=0.1), vnet.ServiceNotFound)
    assert time.monotonic() - began >= 0.1


def test_a_name_is_taken_once(lan: vnet.Lan, guests: Guests) -> None:
    host, a = guests
    with host.listen("disk"):
        assert "'host' listens for service 'disk' already" in message_of(lambda: host.listen("disk"), vnet.NameTaken)
        # Of another guest it is another service.
        with a.listen("disk"):
            pass
    with host.listen("disk"):
        pass


def test_too_many_who_wait_are_turned_away(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk", backlog=3) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(a.connect("host", "disk"))
        message = message_of(lambda: a.connect("host", "disk"), vnet.ServiceBusy)
        assert message.startswith("3 wait already")
        message_of(lambda: a.connect("host", "disk", timeout=0.05), vnet.ServiceBusy)
        stack.enter_context(listener.accept(10))
        # One was taken: one more has room.
        stack.enter_context(a.connect("host", "disk"))
        message_of(lambda: a.connect("host", "disk"), vnet.ServiceBusy)
        assert [each["waiting"] for each in vnet.pipes.services(host)] == [3]


def test_the_longest_backlog_is_kept(guests: Guests) -> None:
    # What the kernel holds for a listener that takes nobody.
    host, a = guests
    with host.listen("disk", backlog=128) as listener, contextlib.ExitStack() as stack:
        for _ in range(128):
            stack.enter_context(a.connect("host", "disk", size=4096))
        message_of(lambda: a.connect("host", "disk"), vnet.ServiceBusy)
        for _ in range(128):
            listener.accept(0).close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ETOOMANYREFS, vnet.ServiceBusy), (errno.EAGAIN, vnet.ServiceBusy), (errno.EPIPE, vnet.ServiceGone)],
)
def test_what_the_kernel_does_not_pass_on_leaves_nothing(
    guests: Guests, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[vnet.VnetError]
) -> None:
    import vnet.pipes.broker

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    host, a = guests
    with host.listen("disk"):
        before = support.descriptors()
        monkeypatch.setattr(vnet.pipes.broker, "send_fds", refuse)
        message_of(lambda: a.connect("host", "disk"), kind)
        # A listener that is gone is forgotten, with its door.
        assert len(support.descriptors()) == len(before) - (kind is vnet.ServiceGone)


def test_a_list_of_guests_lets_only_them_in(lan: vnet.Lan, guests: Guests) -> None:
    host, a = guests
    with lan.attach("b") as b, host.listen("disk", guests=["b"]), host.listen("none", guests=[]):
        b.connect("host", "disk").close()
        assert message_of(lambda: a.connect("host", "disk"), vnet.NotPermitted) == (
            "service 'disk' of 'host' lets 'b' connect, and not 'a'"
        )
        assert "lets no guest connect" in message_of(lambda: b.connect("host", "none"), vnet.NotPermitted)
        with vnet.pipes.connect_operator(lan, "host", "none") as pipe:
            assert pipe.guest is None


def test_a_list_names_guests_of_several_nics_by_guest_or_nic() -> None:
    with vnet.Lan(None) as lan:
        lan.add_network("one", "10.1.0.0/24")
        lan.add_network("two", "10.2.0.0/24")
        host, a = lan.attach("host", network="one"), lan.attach("a", network="two")
        with host.listen("disk", guests=["a"]), a.connect("host", "disk"):
            pass


def test_a_lab_keeps_a_service_for_a_guest_and_its_clients(lan: vnet.Lan, guests: Guests) -> None:
    host, a = guests
    services = lan._register.broker.part("service")
    services.keep("disk", ["host"], ["a"])
    with lan.attach("b") as b:
        message = message_of(lambda: a.listen("disk"), vnet.NotPermitted)
        assert message == "service 'disk' is kept for 'host'; 'a' is not to serve it"
        assert services.listener("host", "disk") is None
        with host.listen("disk"):
            assert services.listener("host", "disk") is not None
            a.connect("host", "disk").close()
            message_of(lambda: b.connect("host", "disk"), vnet.NotPermitted)
            services.forget("disk")
            b.connect("host", "disk").close()
        assert not services.is_listening("disk", "host")


def test_the_other_kind_of_pipe_is_refused(guests: Guests) -> None:
    host, a = guests
    with host.listen("calls", messages=True) as calls, host.listen("disk", messages=False) as disk:
        message = message_of(lambda: a.connect("host", "calls"), ValueError)
        assert message == "service 'calls' of 'host' takes pipes of messages: connect with messages=True"
        message_of(lambda: a.connect("host", "disk", messages=True), ValueError)
        with a.connect("host", "calls", messages=True) as near, calls.accept(10) as far:
            near.send_bytes(b"x")
            assert far.messages
            assert far.recv_bytes() == b"x"
        assert (calls.messages, disk.messages) == (True, False)


def test_services_are_listed(lan: vnet.Lan, guests: Guests) -> None:
    host, a = guests
    disk, cache = host.listen("disk", guests=["a"], backlog=5, messages=True), a.listen("cache")
    with disk, cache, a.connect("host", "disk", messages=True), host.connect("a", "cache"), cache.accept(10):
        same = {"pid": os.getpid(), "connected": 1}
        expected = [
            {"guest": "a", "service": "cache", "guests": None, "messages": None, "backlog": 16, "waiting": 0, **same},
            {"guest": "host", "service": "disk", "guests": ["a"], "messages": True, "backlog": 5, "waiting": 1, **same},
        ]
        assert vnet.pipes.services(lan) == vnet.pipes.services(a) == expected


def test_the_base_keeps_nothing_of_a_pipe(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener:
        # The first makes what is made once.
        with a.connect("host", "disk"), listener.accept(10):
            pass
        before = support.descriptors()
        for _ in range(5):
            with a.connect("host", "disk"), listener.accept(10):
                assert support.descriptors() != before
        assert support.descriptors() == before
    assert len(support.descriptors()) < len(before)


# Accepting


def test_accepting_waits_as_long_as_it_is_told(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener:
        for timeout in (0, 0.05):
            began = time.monotonic()
            message_of(lambda timeout=timeout: listener.accept(timeout), TimeoutError)
            assert time.monotonic() - began >= timeout
        pipes: list[Any] = []
        threading.Timer(0.05, lambda: pipes.append(a.connect("host", "disk"))).start()
        listener.accept().close()
        assert support.eventually(lambda: pipes)
        pipes[0].close()
        for timeout in (-1, float("nan")):
            message_of(lambda timeout=timeout: listener.accept(timeout), ValueError)


def test_a_listener_polls(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener:
        assert select.select([listener], [], [], 0)[0] == []
        with a.connect("host", "disk"):
            assert select.select([listener], [], [], 10)[0] == [listener]
            listener.accept(0).close()
            assert select.select([listener], [], [], 0)[0] == []


@pytest.mark.parametrize("how", ["accept", "iterate"])
def test_who_waits_to_accept_is_told_when_the_listener_is_closed(guests: Guests, how: str) -> None:
    host, _ = guests
    listener = host.listen("disk")
    came: list[Any] = []

    def wait() -> None:
        if how == "iterate":
            came.append(list(listener))
            return
        try:
            listener.accept()
        except vnet.ServiceGone as error:
            came.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    listener.close()
    thread.join(10)
    assert not thread.is_alive()
    assert came == [[]] if how == "iterate" else len(came) == 1


def test_tasks_accept(guests: Guests) -> None:
    host, a = guests

    async def main() -> None:
        with host.listen("disk", messages=True) as listener:
            waiting = asyncio.create_task(listener.aaccept())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            with await vnet.pipes.aconnect(a, "host", "disk", messages=True), await waiting:
                pass
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(listener.aaccept(), 0.05)

            async def serve() -> int:
                served = 0
                async for pipe in listener:
                    with pipe:
                        await pipe.asend_bytes(await pipe.arecv_bytes())
                    served += 1
                return served

            serving = asyncio.create_task(serve())
            for number in range(5):
                with await vnet.pipes.aconnect(a, "host", "disk", messages=True) as pipe:
                    await pipe.asend_bytes(b"%d" % number)
                    assert await pipe.arecv_bytes() == b"%d" % number
            listener.close()
            assert await asyncio.wait_for(serving, 10) == 5

    asyncio.run(main())


def test_tasks_that_give_up_connecting_leave_no_pipe(guests: Guests) -> None:
    host, a = guests

    async def main() -> None:
        with host.listen("disk") as listener:
            for _ in range(10):
                connecting = asyncio.create_task(vnet.pipes.aconnect(a, "host", "disk"))
                await asyncio.sleep(0)
                connecting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    (await connecting).close()
            waiting = asyncio.create_task(vnet.pipes.aconnect(a, "host", "never", timeout=20))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert listener.service == "disk"

    # With the threads that connected: a pipe that nobody closed would be told of, which is an error here.
    asyncio.run(main())


# The end of a guest, of a listener, of the LAN


def test_whoever_waits_to_be_accepted_is_cut_off_with_the_listener(guests: Guests) -> None:
    host, a = guests
    with host.listen("disk") as listener, a.connect("host", "disk") as pipe:
        listener.close()
        with pytest.raises(ConnectionResetError):
            pipe.read(1)
        with pytest.raises(BrokenPipeError):
            pipe.write(b"x")


def test_pipes_outlive_listener_guest_and_lan() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        with lan.attach("host") as host, lan.attach("a") as a:
            with host.listen("disk") as listener:
                near, far = a.connect("host", "disk"), listener.accept(10)
            near.write(b"1")
        near.write(b"2")
    near.write(b"3")
    near.close()
    assert far.read() == b"123"
    far.close()


def test_a_listener_ends_with_its_guest_and_with_the_lan() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        host, a = lan.attach("host"), lan.attach("a")
        with host.listen("disk") as listener, a.listen("disk") as other:
            host.close()
            message_of(lambda: listener.accept(10), vnet.NicClosed)
            assert select.select([listener], [], [], 0)[0] == [listener]
            lan.close()
            message_of(lambda: other.accept(10), vnet.LanClosed)
            message_of(lambda: a.connect("a", "disk"), vnet.LanClosed)
            message_of(lambda: a.listen("more"), vnet.LanClosed)


def test_a_closed_guest_neither_listens_nor_connects(lan: vnet.Lan) -> None:
    nic = lan.attach("a")
    nic.close()
    message_of(lambda: nic.listen("disk"), vnet.NicClosed)
    message_of(lambda: nic.connect("a", "disk"), vnet.NicClosed)


def test_a_listener_is_closed_twice_and_says_so(guests: Guests) -> None:
    host, _ = guests
    listener = host.listen("disk")
    assert not listener.closed
    listener.close()
    listener.close()
    assert listener.closed
    assert "closed" in repr(listener)
    for act in (lambda: listener.accept(0), listener.fileno, listener.socket):
        message_of(act, vnet.ServiceGone)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(listener)
    with pytest.raises(TypeError):
        copy.copy(listener)


def test_a_listener_that_is_forgotten_frees_its_name(guests: Guests) -> None:
    host, _ = guests
    listener = host.listen("disk")
    with pytest.warns(ResourceWarning, match="unclosed <vnet.Listener disk"):
        del listener
    host.listen("disk").close()


# Wrong use


@pytest.mark.parametrize("name", ["", "no spaces", "a/b", "-x", "x" * 65, "größe", "a\n", "a\0b"])
def test_a_wrong_name_of_a_service_is_refused(guests: Guests, name: str) -> None:
    host, a = guests
    message_of(lambda: host.listen(name), ValueError)
    message_of(lambda: a.connect("host", name), ValueError)


def test_wrong_arguments_are_refused_with_what_is_wrong(guests: Guests) -> None:
    host, a = guests
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: host.listen(5), "service"),  # type: ignore[arg-type]
        (lambda: host.listen("disk", backlog=0), "backlog"),
        (lambda: host.listen("disk", backlog=129), "backlog"),
        (lambda: host.listen("disk", backlog="5"), "backlog"),  # type: ignore[arg-type]
        (lambda: host.listen("disk", backlog=True), "backlog"),
        (lambda: host.listen("disk", guests="a"), r"\['a'\]"),
        (lambda: host.listen("disk", guests=[1]), "guest"),  # type: ignore[list-item]
        (lambda: host.listen("disk", messages=1), "messages"),  # type: ignore[arg-type]
        (lambda: host.listen("disk", longest=0), "longest"),
        (lambda: a.connect(host, "disk"), "by its name"),  # type: ignore[arg-type]
        (lambda: a.connect("host", None), "service"),  # type: ignore[arg-type]
        (lambda: a.connect("host", "disk", size=0), "size"),
        (lambda: a.connect("host", "disk", size="1MiB"), "size"),  # type: ignore[arg-type]
        (lambda: a.connect("host", "disk", messages="yes"), "messages"),  # type: ignore[arg-type]
        (lambda: a.connect("host", "disk", timeout=-1), "timeout"),
        (lambda: a.connect("host", "disk", longest=1.5), "longest"),  # type: ignore[arg-type]
    ]
    with host.listen("disk"):
        pass
    for act, what in wrong:
        with pytest.raises((TypeError, ValueError), match=what):
            act()
    assert vnet.pipes.services(host) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "service.listen"},
        {"do": "service.listen", "service": 5},
        {"do": "service.listen", "service": "x", "backlog": "many"},
        {"do": "service.listen", "service": "x", "backlog": 1e9},
        {"do": "service.listen", "service": "x", "guests": "a"},
        {"do": "service.listen", "service": "x", "guests": [1]},
        {"do": "service.listen", "service": "x", "messages": 1},
        {"do": "service.unlisten"},
        {"do": "service.unlisten", "service": ["x"]},
        {"do": "service.unlisten", "service": {"x": 1}},
        {"do": "service.connect"},
        {"do": "service.connect", "guest": "host", "service": "disk"},
        {"do": "service.connect", "guest": "host", "service": "disk", "size": "big"},
        {"do": "service.connect", "guest": "host", "service": "disk", "size": 1 << 62},
        {"do": "service.connect", "guest": ["host"], "service": "disk", "size": 4096},
        {"do": "service.connect", "guest": "host", "service": {}, "size": 4096},
        {"do": "service.connect", "guest": "host", "service": "disk", "size": 4096, "messages": "no"},
        {"do": "service.more"},
    ],
)
def test_a_base_refuses_requests_that_make_no_sense(named: vnet.Lan, request_: dict[str, Any]) -> None:
    with named.attach("host") as host, host.listen("disk"), vnet.attach("office", "b") as b:
        try:
            _, files = b._door().ask(request_["do"], **{name: each for name, each in request_.items() if name != "do"})
        except (vnet.VnetError, ValueError) as error:
            # One sentence, and not what went wrong inside.
            assert "Error(" not in str(error)  # noqa: PT017
            assert "failed at this request" not in str(error)  # noqa: PT017
        else:
            assert request_["do"] == "service.unlisten"
            assert files == []
        # It goes on for this guest and for all.
        with b.connect("host", "disk"):
            pass
