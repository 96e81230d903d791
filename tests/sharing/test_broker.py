"""The broker: who asks is known, what is answered goes to who asked, and nothing that a client says disturbs others."""

from __future__ import annotations

import array
import contextlib
import functools
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Guest, datagram, descriptors, eventually, examples

import vnet
from vnet import _native
from vnet.sharing import Broker
from vnet.sharing.broker import Guest as Asking
from vnet.wire import LONGEST, request_line

Start = Callable[..., Guest]
# With patience: other tests may have the machine.
soon = functools.partial(eventually, timeout=20.0)
Answer = tuple[dict[str, Any], list[int]]


@pytest.fixture
def broker(named: vnet.Lan) -> Broker:
    """One that also serves what tests ask: who asks, descriptors back and forth, and refusals."""
    broker = named._register.broker

    def who(guest: Asking | None, request: dict[str, Any], files: list[int]) -> Answer:
        return {"guest": guest, "number": guest and guest.number, "pid": guest and guest.pid, "x": request.get("x")}, []

    def swap(guest: Asking | None, request: dict[str, Any], files: list[int]) -> Answer:
        # What came is read, what goes is full of it.
        read = b"".join(os.pread(file, 100, 0) for file in files)
        answered = []
        for at in range(request["count"]):
            answered.append(os.memfd_create("vnet:answer"))
            os.write(answered[-1], bytes([at]) + read)
        return {}, answered

    def refuse(guest: Asking | None, request: dict[str, Any], files: list[int]) -> Answer:
        raise {"permission": vnet.NotPermitted, "value": ValueError, "type": TypeError}.get(request["x"], OSError)("no")

    broker.on("region.who", who, operators=True)
    broker.on("region.swap", swap)
    broker.on("region.refuse", refuse)
    return broker


@pytest.fixture
def lease(named: vnet.Lan, broker: Broker, runtime_directory: Path) -> Iterator[Callable[[], socket.socket]]:
    """Connections that are NICs' leases, on which any bytes can be said."""
    opened: list[socket.socket] = []

    def attach() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(runtime_directory / "vnet" / "office.sock"))
        opened.append(connection)
        connection.send(request_line({"do": "attach", "nic": f"raw-{len(opened)}", "addresses": None}))
        _, files, _, _ = socket.recv_fds(connection, 65_536, 16)
        for file in files:
            os.close(file)
        return connection

    yield attach
    for each in opened:
        each.close()


def say(connection: socket.socket, what: dict[str, Any], files: tuple[int, ...] = ()) -> None:
    socket.send_fds(connection, [request_line(what)], files)


def hear(connection: socket.socket) -> dict[str, Any]:
    """The next answer; what comes with it is closed."""
    data = b""
    while not data.endswith(b"\n"):
        more, files, _, _ = socket.recv_fds(connection, 65_536, 16)
        for file in files:
            os.close(file)
        if not more:
            return {"end": True}
        data += more
    answer = json.loads(data.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def stop(process: Guest) -> None:
    """SIGSTOP, and waits until none of its threads runs any more."""
    os.kill(process.pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{process.pid}/task")
    assert soon(lambda: all(") T " in (task / "stat").read_text() for task in tasks.iterdir()))


def test_a_guest_is_known_by_its_nic_however_it_asks(named: vnet.Lan, broker: Broker, guest: Start) -> None:
    inside = [named.attach("nic"), named.host("host"), named.netns("space")]
    for each in inside:
        answer, _ = each._door().ask("region.who")
        assert (answer["guest"], answer["pid"]) == (each.name, os.getpid())
    process = guest(
        """
nic = vnet.attach("office", "outside")
answer, _ = nic._door().ask("region.who")
say(answer["guest"], answer["pid"] == os.getpid())
"""
    )
    assert process.hear() == "outside True"


def test_who_comes_again_by_the_same_name_has_another_number(named: vnet.Lan, broker: Broker) -> None:
    numbers = []
    for _ in range(3):
        for attach in (named.attach, lambda name: vnet.attach("office", name)):
            with attach("again") as nic:
                numbers.append(nic._door().ask("region.who")[0]["number"])
                assert nic._door().ask("region.who")[0]["number"] == numbers[-1]
    assert len(set(numbers)) == 6


def test_a_kept_place_has_one_guest_after_the_other(named: vnet.Lan, broker: Broker) -> None:
    gone: list[int] = []
    broker.hook_gone(lambda guest: gone.append(guest.number))
    named.reserve("kept")
    numbers = []
    for _ in range(2):
        with vnet.attach("office", "kept") as nic:
            numbers.append(nic._door().ask("region.who")[0]["number"])
        assert gone == numbers
    assert len(set(numbers)) == 2


@pytest.mark.parametrize("how", ["close", "removed", "dropped", "killed", "lan"])
def test_it_is_told_of_everyone_who_has_gone_and_once(named: vnet.Lan, broker: Broker, guest: Start, how: str) -> None:
    gone: list[str] = []
    broker.hook_gone(gone.append)
    process = guest(
        """
nic = vnet.attach("office", "b")
nic._door().ask("region.who")
say("there")
while hear() == "close":
    nic.close()
    say("closed")
"""
    )
    assert process.hear() == "there"
    inside: vnet.Nic | None = named.attach("a")
    assert inside is not None
    inside._door().ask("region.who")
    # Who never asked is nobody that anything is to be let go of for.
    named.attach("c").close()
    assert gone == []
    if how == "close":
        process.say("close")
        assert process.hear() == "closed"
        inside.close()
    elif how == "removed":
        named.remove("b")
        named.remove("a")
    elif how == "dropped":
        process.say("end")
        process.end()
        inside = None
        # The collector takes no locks: the next who asks has it noted.
        assert soon(lambda: named.attach("d").close() is None and len(gone) == 2)
    elif how == "killed":
        process.kill()
        inside.close()
    else:
        named.close()
    assert soon(lambda: sorted(gone) == ["a", "b"])


def test_descriptors_go_with_requests_and_answers_and_none_is_left(named: vnet.Lan, broker: Broker) -> None:
    for nic in (named.attach("a"), vnet.attach("office", "b")):
        # From the first question on the base watches the process, too.
        nic._door().ask("region.who")
        before = set(descriptors())
        for _ in range(3):
            given = []
            for at in range(10):
                given.append(os.memfd_create("vnet:given"))
                os.write(given[-1], b"%d" % at)
            _, files = nic._door().ask("region.swap", given, count=10)
            assert [os.pread(file, 100, 0) for file in files] == [bytes([at]) + b"0123456789" for at in range(10)]
            # Those that were given are still the caller's, and not inherited by programs.
            assert [file for file in (*given, *files) if os.get_inheritable(file)] == [], (nic, given)
            for file in (*given, *files):
                os.close(file)
        assert soon(lambda before=before: set(descriptors()) == before)
        nic.close()


def test_a_refusal_is_raised_as_what_it_is_and_the_guest_goes_on(named: vnet.Lan, broker: Broker) -> None:
    for nic in (named.attach("a"), vnet.attach("office", "b")):
        for what, kind in {"permission": vnet.NotPermitted, "value": ValueError}.items():
            with pytest.raises(kind, match="no"):
                nic._door().ask("region.refuse", x=what)
        for what in ("type", "other"):
            with pytest.raises((TypeError, ValueError, vnet.VnetError, OSError), match="no"):
                nic._door().ask("region.refuse", x=what)
        with pytest.raises(vnet.ProtocolError, match=r"does not serve 'region\.no'"):
            nic._door().ask("region.no")
        assert nic._door().ask("region.who", x=5)[0]["x"] == 5
        nic.close()


def test_a_fault_of_what_serves_is_told_and_ends_nothing(
    named: vnet.Lan, broker: Broker, capfd: pytest.CaptureFixture[str]
) -> None:
    gone: list[str] = []

    def fail(guest: Asking) -> None:
        raise RuntimeError(f"a fault at the end of {guest!s}")

    broker.hook_gone(fail)
    broker.hook_gone(gone.append)
    broker.on("region.odd", lambda *_: ({"x": b"no JSON"}, [os.memfd_create("vnet:odd")]))
    with vnet.attach("office", "b") as nic:
        with pytest.raises((vnet.VnetError, ValueError), match="not JSON serializable"):
            nic._door().ask("region.odd")
        assert nic._door().ask("region.who")[0]["guest"] == "b"
    assert soon(lambda: gone == ["b"])
    assert "a fault at the end of b" in capfd.readouterr().err
    assert not any("vnet:odd" in what for what in descriptors().values())
    with vnet.attach("office", "b") as nic:
        assert nic._door().ask("region.who")[0]["guest"] == "b"


def test_threads_of_a_guest_get_each_its_own_answer(named: vnet.Lan, broker: Broker) -> None:
    for nic in (named.attach("a"), vnet.attach("office", "b")):
        wrong: list[object] = []

        def ask(own: int, nic: vnet.Nic = nic, wrong: list[object] = wrong) -> None:
            for at in range(100):
                answer, _ = nic._door().ask("region.who", x=[own, at])
                if answer["x"] != [own, at]:
                    wrong.append(answer)

        threads = [threading.Thread(target=ask, args=(own,)) for own in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        nic.close()


def test_asking_leaves_the_lease_s_watch_and_the_traffic_alone(named: vnet.Lan, broker: Broker, guest: Start) -> None:
    process = guest(
        """
with vnet.attach("office", "b", "10.0.0.9") as nic:
    def ask():
        while True:
            try:
                nic._door().ask("region.who")
            except vnet.LanClosed:
                say("closed for who asks")
                return
    thread = threading.Thread(target=ask)
    thread.start()
    say("there")
    try:
        while True:
            nic.recv()
    except vnet.LanClosed:
        thread.join()
        say("closed for who receives")
"""
    )
    assert process.hear() == "there"
    a = named.attach("a", "10.0.0.8")
    for _ in range(200):
        assert a.send(datagram("10.0.0.8", "10.0.0.9")) is vnet.Verdict.DELIVERED
        time.sleep(0.001)
    named.close()
    assert process.hear() == "closed for who asks"
    assert process.hear() == "closed for who receives"


def test_a_base_that_is_killed_is_said_to_be_gone(guest: Start) -> None:
    base = guest("lan = vnet.Lan('doomed', '10.0.0.0/24'); say('up'); hear()")
    assert base.hear() == "up"
    nic = vnet.attach("doomed", "a")
    region = nic.create_region(1)
    base.kill()
    with pytest.raises(vnet.LanClosed, match="'doomed' has ended"):
        nic.create_region(1)
    # Memory is memory, and closing waits for nobody.
    region[0] = 1
    region.close()
    nic.close()


def test_a_base_that_is_stopped_is_said_to_be_and_answers_later(guest: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnet.sharing.doors._PATIENCE", 0.2)
    base = guest("lan = vnet.Lan('slow', '10.0.0.0/24'); say('up'); hear()")
    assert base.hear() == "up"
    nic = vnet.attach("slow", "a")
    region = nic.create_region(1)
    stop(base)
    try:
        for _ in range(3):
            with pytest.raises(vnet.ProtocolError, match=r"did not answer within 0.2 s; is it stopped\?"):
                nic.create_region(4096)
    finally:
        os.kill(base.pid, signal.SIGCONT)
    # The answers to what nobody waits for any more come first, and are thrown away with what came along.
    assert soon(lambda: _attaches(nic, region))
    assert sum(":region:" in what for what in descriptors().values()) == 1
    region.close()
    nic.close()


def _attaches(nic: vnet.Nic, region: vnet.Region) -> bool:
    try:
        with nic.attach_region(region.handle) as again:
            return again.handle == region.handle
    except vnet.ProtocolError:
        return False


def test_ctrl_c_in_the_middle_of_a_question_leaves_the_guest_as_it_was(guest: Start) -> None:
    base = guest("lan = vnet.Lan('slow', '10.0.0.0/24'); say('up'); hear()")
    assert base.hear() == "up"
    process = guest(
        """
from support import descriptors
nic = vnet.attach("slow", "a")
region = nic.create_region(1)
say("ready")
hear()
try:
    nic.create_region(4096)
except KeyboardInterrupt:
    say("interrupted")
hear()
with nic.attach_region(region) as again:
    say(again.size, sum(":region:" in what for what in descriptors().values()))
"""
    )
    assert process.hear() == "ready"
    stop(base)
    process.say()
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    assert process.hear() == "interrupted"
    os.kill(base.pid, signal.SIGCONT)
    process.say()
    assert process.hear() == "1 2"


def test_a_forked_child_is_told_that_it_is_one(named: vnet.Lan, broker: Broker, guest: Start) -> None:
    process = guest(
        """
nic = vnet.attach("office", "b")
nic._door().ask("region.who")
if os.fork() == 0:
    try:
        nic._door().ask("region.who")
    except vnet.ForkedNic:
        nic.close()
        del nic
        os._exit(5)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 5
say(nic._door().ask("region.who")[0]["guest"])
"""
    )
    assert process.hear() == "b"


def test_closed_is_closed(named: vnet.Lan, broker: Broker) -> None:
    for nic in (named.attach("a"), vnet.attach("office", "b")):
        nic.close()
        with pytest.raises(vnet.NicClosed, match=f"'{nic.name}' was closed"):
            nic.create_region(1)


_REFUSALS = {"ProtocolError", "ValueError", "MachineLacks", "RegionNotFound", "NotPermitted"}

# What may be said on a lease, and is no good request.
_WRONG: list[dict[str, Any]] = [
    {"do": "region.create"},
    {"do": "region.create", "size": "64MiB"},
    {"do": "region.create", "size": True},
    {"do": "region.create", "size": 1.5},
    {"do": "region.create", "size": -1},
    {"do": "region.create", "size": 10**400},
    {"do": "region.create", "size": None},
    {"do": "region.create", "size": 1, "name": 5},
    {"do": "region.create", "size": 1, "name": "x" * 10_000},
    {"do": "region.create", "size": 1, "name": "../../etc"},
    {"do": "region.create", "size": 1, "huge": "yes"},
    {"do": "region.create", "size": 1, "guests": "all"},
    {"do": "region.create", "size": 1, "guests": [["a"]]},
    {"do": "region.create", "size": 1, "guests": {"a": 1}},
    {"do": "region.create", "size": 1, "readonly": None},
    {"do": "region.create", "size": 1, "readonly": ["raw-1"]},
    {"do": "region.attach"},
    {"do": "region.attach", "handle": 5},
    {"do": "region.attach", "handle": ["a"]},
    {"do": "region.attach", "handle": {}},
    {"do": "region.attach", "handle": "0" * 32, "readonly": 1},
    {"do": "region.detach"},
    {"do": "region.detach", "attachment": 1},
    {"do": "region.detach", "attachment": -1},
    {"do": "region.mapped", "attachment": 10**30, "start": "0x0"},
    {"do": "region.find", "name": None},
    {"do": "region.find", "name": ["cache"]},
    {"do": "region.allow", "handle": "0" * 32, "guest": None},
    {"do": "region.attachments"},
    {"do": "region.frames", "handle": "0" * 32},
    {"do": "region."},
    {"do": ".create"},
    {"do": "queue.nothing", "x": [[[]]]},
    {"do": "service.nothing"},
    {"do": "region.who", "descriptors": 1},
    {"do": "region.who", "descriptors": -1},
    {"do": "region.who", "descriptors": "all"},
    {"do": "region.who", "descriptors": True},
]


def test_a_request_that_is_none_is_refused_and_changes_nothing(
    named: vnet.Lan, broker: Broker, lease: Callable[[], socket.socket]
) -> None:
    mine = named.attach("mine").create_region(1, name="mine")
    before = descriptors()
    connection = lease()
    for wrong in _WRONG:
        say(connection, {**wrong, "tag": 7})
        answer = hear(connection)
        if "end" in answer or wrong["do"].startswith("."):
            # What is no guest's affair ends the connection, as ever.
            connection.close()
            connection = lease()
            continue
        assert answer["ok"] is False, wrong
        assert answer["error"] in ("ProtocolError", "ValueError", "MachineLacks", "RegionNotFound", "NotPermitted"), (
            answer
        )
        assert len(answer["message"]) < 300, "however long what was said is"
    say(connection, {"do": "region.who", "x": 1})
    assert hear(connection)["x"] == 1
    connection.close()
    assert soon(lambda: len(descriptors()) <= len(before) + 4)
    assert [each["name"] for each in broker.list_regions()] == ["mine"]
    mine.close()


def test_of_somebody_else_s_region_nothing_is_told_or_let_go_of(
    named: vnet.Lan, broker: Broker, lease: Callable[[], socket.socket]
) -> None:
    with named.attach("mine").create_region(4096, guests=["other"]) as mine:
        connection = lease()
        # Whoever guesses numbers of attachments, or has seen the handle, lets go of nobody's region.
        for number in range(20):
            say(connection, {"do": "region.detach", "attachment": number})
            assert hear(connection)["error"] == "RegionNotFound"
        for do in ("attachments", "attach", "frames"):
            arguments = {"handle": mine.handle, "attachment": 1, "first": 0, "count": 1}
            say(connection, {"do": f"region.{do}", **arguments})
            assert hear(connection)["error"] == "NotPermitted"
        say(connection, {"do": "region.allow", "handle": mine.handle, "guest": "raw-1"})
        assert hear(connection)["error"] == "NotPermitted"
        assert len(mine.attachments()) == 1
        # Of one's own no more pages than there are, and no more at a time than make an answer.
        say(connection, {"do": "region.create", "size": 4096})
        own = hear(connection)
        say(connection, {"do": "region.attachments", "handle": own["handle"]})
        hear(connection)
        for first, count in ((0, 1 << 40), (1, 1), (1 << 60, 1), (0, 16_385)):
            number = own["attachment"]
            asked = {"handle": own["handle"], "attachment": number, "first": first, "count": count}
            say(connection, {"do": "region.frames", **asked})
            answer = hear(connection)
            # This client never mapped it: there is nothing to be told.
            assert answer.get("frames", "") is None or answer["error"] == "ProtocolError"


def test_more_descriptors_than_a_request_has_end_the_connection_and_none_is_kept(
    named: vnet.Lan, broker: Broker, lease: Callable[[], socket.socket]
) -> None:
    connection = lease()
    files = [os.memfd_create("vnet:flood") for _ in range(40)]
    for _ in range(3):
        with contextlib.suppress(OSError):
            connection.sendmsg(
                [request_line({"do": "region.who"})], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            )
    assert soon(lambda: _is_over(connection))
    for file in files:
        os.close(file)
    connection.close()
    assert soon(lambda: not any("vnet:flood" in what for what in descriptors().values()))


def _is_over(connection: socket.socket) -> bool:
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def test_a_line_without_end_ends_the_connection(broker: Broker, lease: Callable[[], socket.socket]) -> None:
    connection = lease()
    connection.sendall(b'{"abi": %d, "do": "region.who", "x": "' % _native.ABI + b"x" * 2 * LONGEST)
    assert soon(lambda: _is_over(connection))


def test_a_guest_that_asks_without_end_and_never_listens_holds_nobody_up(
    named: vnet.Lan, broker: Broker, lease: Callable[[], socket.socket]
) -> None:
    flood = lease()
    flood.setblocking(False)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                say(flood, {"do": "region.create", "size": 1 << 20})
                say(flood, {"do": "region.list"})
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        with vnet.attach("office", "b") as nic:
            for _ in range(50):
                # Who is not answered within seconds is told so, by an exception.
                nic.create_region(1).close()
    finally:
        stop.set()
        thread.join()
    flood.close()
    assert soon(lambda: broker.list_regions() == [])


def test_whatever_bytes_come_over_a_lease_the_base_goes_on(
    named: vnet.Lan, broker: Broker, lease: Callable[[], socket.socket]
) -> None:
    rng = random.Random(1)
    good = [request_line(each) for each in (*_WRONG, {"do": "region.create", "size": 4096}, {"do": "region.list"})]
    for _ in range(examples(60)):
        connection = lease()
        connection.settimeout(0.001)
        with contextlib.suppress(OSError):
            for _ in range(6):
                line = bytearray(rng.choice(good))
                for _ in range(rng.choice((0, 1, 1, 3))):
                    line[rng.randrange(len(line))] = rng.randrange(256)
                files = [os.memfd_create("vnet:noise") for _ in range(rng.choice((0, 0, 1, 3)))]
                try:
                    socket.send_fds(
                        connection, [bytes(line[: rng.choice((len(line), rng.randrange(len(line)) + 1))])], files
                    )
                finally:
                    for file in files:
                        os.close(file)
                with contextlib.suppress(TimeoutError):
                    hear(connection)
        connection.close()
    with vnet.attach("office", "b") as nic:
        assert nic._door().ask("region.who")[0]["guest"] == "b"
    assert soon(lambda: broker.list_regions() == [])
