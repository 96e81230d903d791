"""The fakes answer as the LAN does: the LAN's own tests, run once more with a fake in its place, and what is left."""

from __future__ import annotations

import doctest
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from support import datagram, examples
from test_blocking import (  # noqa: F401
    test_a_sender_that_waits_loses_nothing_to_a_slow_reader,
    test_a_thread_that_waits_for_room_does_not_keep_others_from_sending,
    test_a_timeout_that_is_none_is_refused,
    test_a_wait_for_room_ends_with_buffer_full_and_is_counted_once,
    test_a_waiting_sender_learns_of_the_end,
    test_room_ends_a_wait_at_once,
)
from test_receiving import (  # noqa: F401
    test_a_blocked_recv_goes_on_when_another_thread_asks_for_the_descriptor,
    test_a_descriptor_asked_for_late_knows_of_what_came_before,
    test_a_look_never_misses_a_datagram_that_is_there,
    test_a_part_of_a_view_that_outlives_it_can_still_be_read,
    test_a_sleeping_poll_is_woken_by_a_datagram_by_close_and_by_the_end_of_the_lan,
    test_a_timeout_is_kept,
    test_a_view_is_the_datagram_in_place_and_read_only,
    test_a_view_left_open_does_not_hide_that_nothing_is_there,
    test_a_view_that_is_left_open_ends_with_the_next_receive,
    test_a_view_that_nobody_holds_gives_its_place_back,
    test_a_waiting_receiver_gets_what_is_sent_later,
    test_add_reader_works_with_a_nic,
    test_asyncio_iterates_over_datagrams_until_the_nic_is_closed,
    test_asyncio_learns_of_the_end_of_the_lan,
    test_asyncio_tasks_may_share_a_nic,
    test_close_in_another_thread_ends_a_blocked_receive,
    test_recv_many_takes_no_more_than_asked_and_leaves_the_rest,
    test_the_descriptor_is_readable_exactly_while_datagrams_wait,
    test_threads_that_share_nics_lose_nothing_double_nothing_and_keep_each_senders_order,
)
from test_verdict_model import Lans
from test_verdicts import (  # noqa: F401
    send,
    test_a_broadcast_reaches_those_with_room_and_is_counted_where_there_is_none,
    test_a_broadcast_with_nobody_else_there_is_delivered_to_all_of_nobody,
    test_a_datagram_arrives_byte_for_byte_however_odd_it_is,
    test_a_datagram_to_ones_own_address_comes_back,
    test_a_large_batch_to_many_receivers_keeps_the_order_of_each,
    test_an_injection_names_its_nic,
    test_anything_bytes_like_can_be_sent_and_nothing_else,
    test_every_size_up_to_65535_bytes_arrives_whole,
    test_every_verdict_comes_from_every_way_to_send_and_is_counted,
    test_what_an_iterable_raises_reaches_the_caller,
)

import vnet
import vnet.testing
from vnet import Verdict
from vnet.sharing import Sharing
from vnet.testing import FakeLan, FakeNic, Sent, echo

BOTH = ["10.0.0.0/24", "fd00::/64"]

both = pytest.mark.parametrize("make", [vnet.Lan, FakeLan])


@pytest.fixture
def lan() -> Iterator[FakeLan]:
    """Stands in for the LAN of the tests above."""
    with FakeLan(None, BOTH) as lan:
        yield lan


class FakeLans(Lans):
    """Guests come, go and send in any order; the fake and the model must agree at every step."""

    make = FakeLan  # type: ignore[assignment]


TestFakeLans = FakeLans.TestCase
TestFakeLans.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)


# What both say, beside the tests above


def said(act: Callable[[], Any]) -> str:
    """What an act gives or raises, without what differs from one LAN to the next."""
    try:
        return repr(act())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_both_say_the_same_of_names_addresses_and_networks() -> None:
    told = []
    for make in (vnet.Lan, FakeLan):
        with make(None, BOTH, max_nics=4, mtu=1400) as lan:
            held = lan.attach("a")
            lan.reserve("kept", "10.0.0.7")
            told.append(
                [
                    said(lambda lan=lan: lan.attach("a")),
                    said(lambda lan=lan: lan.attach("b", "10.0.0.1")),
                    said(lambda lan=lan: lan.attach("b", "10.0.1.1")),
                    said(lambda lan=lan: lan.attach("b", "10.0.0.255")),
                    said(lambda lan=lan: lan.attach("b", "ten")),
                    said(lambda lan=lan: lan.attach("b", buffer=0)),
                    said(lambda lan=lan: lan.attach("b", network="nowhere")),
                    said(lambda lan=lan: lan.attach("-b")),
                    said(lambda lan=lan: lan.add_network("lan", "10.1.0.0/24")),
                    said(lambda lan=lan: lan.add_network("other", "10.0.0.128/25")),
                    said(lambda lan=lan: lan.add_network("small", "10.1.0.0/24", mtu=67)),
                    said(lambda lan=lan: lan.remove_network("lan")),
                    said(lambda lan=lan: lan.remove("nobody")),
                    said(lambda lan=lan: lan.attach("kept", "10.0.0.8")),
                    said(lambda lan=lan: (lan.attach("c"), lan.attach("d")) and lan.attached("kept")),
                    said(lambda lan=lan: list(lan.nics.values())),
                    said(lambda lan=lan: lan.networks),
                ]
            )
            held.close()
    assert told[0] == told[1]


@both
def test_a_closed_nic_and_a_closed_lan_say_so(make: Callable[..., Any]) -> None:
    lan = make(None, BOTH)
    a, b, taken = lan.attach("a"), lan.attach("b"), lan.attach("taken")
    b.close()
    b.close()
    lan.remove("taken")
    for gone in (b, taken):
        for use in (
            lambda nic: nic.send(b""),
            lambda nic: nic.recv(0),
            lambda nic: nic.fileno(),
            lambda nic: nic.check(),
        ):
            with pytest.raises(vnet.NicClosed):
                use(gone)
    assert a.send(datagram(a.address, b.address)) is Verdict.NO_HOST
    lan.close()
    lan.close()
    assert lan.closed
    for act in (lambda: a.send(b""), lambda: a.recv(0), lambda: lan.attach("c"), lambda: lan.statistics()):
        with pytest.raises(vnet.LanClosed):
            act()
    with pytest.raises(vnet.NicClosed):
        b.send(b"")
    a.close()


@both
def test_a_place_is_down_until_its_guest_comes_and_when_it_has_gone(make: Callable[..., Any]) -> None:
    with make(None, BOTH) as lan:
        a, place = lan.attach("a"), lan.reserve("kept")
        data = datagram(a.address, place.addresses[0])
        assert a.send(data) is Verdict.NIC_DOWN
        with lan.attach("kept") as kept:
            assert lan.attached("kept")
            assert a.send_many([data, data]) == [Verdict.DELIVERED] * 2
            assert kept.recv(0) == data
        assert not lan.attached("kept")
        assert a.send(data) is Verdict.NIC_DOWN
        # What the last holder did not read is not its successor's.
        with lan.attach("kept") as kept, pytest.raises(vnet.ReceiveTimeout):
            kept.recv(0)


@both
def test_a_nic_that_is_dropped_without_close_frees_its_name(make: Callable[..., Any]) -> None:
    with make(None, BOTH) as lan:
        nic = lan.attach("a")
        del nic
        gc.collect()
        lan.attach("a").close()


@both
def test_neither_can_be_pickled(make: Callable[..., Any]) -> None:
    with make(None, BOTH) as lan, pytest.raises(TypeError, match="cannot be pickled"):
        lan.attach("a").__reduce__()


def test_a_fake_nic_has_whatever_a_nic_has() -> None:
    """But for what only those touch who know the segment."""
    inner = {"slot", "segment", "hold_record", "shut"}
    with vnet.Lan(None, BOTH) as real, FakeLan(None, BOTH) as fake:
        ours, theirs = ({name for name in dir(lan.attach("a")) if not name.startswith("_")} for lan in (real, fake))
        # The TCP/IP stack reads the segment itself, and what guests share is memory and descriptors of the kernel's.
        real_only = {"stack"} | {name for name in dir(Sharing) if not name.startswith("_")} - {"name"}
        assert ours - theirs - inner == real_only
        assert theirs - ours == {"sent", "order", "deliver"}
        for name in real_only:
            with pytest.raises(AttributeError, match=rf"a FakeNic has no '{name}'.*fixture `lan`"):
                getattr(fake.attach(name.replace("_", "-")), name)


# What only the fake has


def test_it_notes_what_was_sent_and_what_became_of_it() -> None:
    with FakeLan(prefix=BOTH) as lan:
        a, b = lan.attach("a"), lan.attach("b")
        near, far = datagram(a.address, b.address), datagram(a.address, "10.9.9.9")
        a.send(bytearray(near))
        a.send_many([far, b""])
        assert a.sent == [
            Sent(near, Verdict.DELIVERED),
            Sent(far, Verdict.NO_ROUTE),
            Sent(b"", Verdict.MALFORMED),
        ]
        assert b.sent == []


def test_a_verdict_to_order_comes_as_often_as_ordered_counts_and_reaches_nobody() -> None:
    with FakeLan(prefix=BOTH) as lan:
        a, b = lan.attach("a"), lan.attach("b")
        data = datagram(a.address, b.address)
        a.order(Verdict.BUFFER_FULL, 2)
        a.order(Verdict.NIC_DOWN)
        verdicts = [a.send(data), *a.send_many([data, data]), a.send(data, block=True)]
        assert verdicts == [Verdict.BUFFER_FULL, Verdict.BUFFER_FULL, Verdict.NIC_DOWN, Verdict.DELIVERED]
        assert b.recv_many(timeout=0) == [data]
        assert a.statistics().verdicts[Verdict.BUFFER_FULL] == 2
        with pytest.raises(ValueError, match="not delivered to order"):
            a.order(Verdict.DELIVERED)


def test_delivered_datagrams_are_received_and_counted() -> None:
    with FakeLan(prefix=BOTH, buffer=256 << 10) as lan:
        nic = lan.attach("a")
        nic.deliver(b"anything", bytearray(b"at all"))
        assert nic.recv_many(timeout=0) == [b"anything", b"at all"]
        assert nic.statistics().rx_datagrams == 2
        with pytest.raises(OverflowError, match="no room for 65535 bytes"):
            nic.deliver(*[bytes(65_535)] * 5)


def test_a_scripted_peer_answers_before_send_returns_and_its_answers_keep_the_rules() -> None:
    with FakeLan(prefix=BOTH) as lan:
        me = lan.attach("me")
        to_me, elsewhere = datagram("10.0.0.2", me.address, b"one"), datagram("10.0.0.2", "10.0.0.99")

        def answer(received: bytes) -> list[bytes] | bytes | None:
            return {b"two": [to_me, elsewhere], b"one": to_me}.get(received[20:])

        peer = lan.peer("peer", answer)
        for payload, count in ((b"two", 1), (b"one", 1), (b"none", 0)):
            assert me.send(datagram(me.address, peer.address, payload)) is Verdict.DELIVERED
            assert len(me.recv_many(timeout=0) if count else []) == count
        assert peer.sent == [
            Sent(to_me, Verdict.DELIVERED),
            Sent(elsewhere, Verdict.NO_HOST),
            Sent(to_me, Verdict.DELIVERED),
        ]
        assert peer.statistics().rx_datagrams == 3


def test_peers_that_answer_each_other_without_end_are_stopped() -> None:
    with FakeLan(prefix=BOTH) as lan:
        lan.peer("x", lambda _: datagram("10.0.0.1", "10.0.0.2"))
        lan.peer("y", lambda _: datagram("10.0.0.2", "10.0.0.1"))
        with pytest.raises(RuntimeError, match="without end"):
            lan.attach("me").send(datagram("10.0.0.3", "10.0.0.1"))


@pytest.mark.parametrize("payload", [b"", b"odd", bytes(range(256)) * 4, b"\xff" * 1001])
@pytest.mark.parametrize("family", [4, 6])
def test_echo_answers_as_the_built_in_host_does(payload: bytes, family: int) -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.packet import Raw

    source, target = ("10.0.0.1", "10.0.0.2") if family == 4 else ("fd00::1", "fd00::2")
    inner = ICMP(id=7, seq=9) / Raw(payload) if family == 4 else ICMPv6EchoRequest(id=7, seq=9, data=payload)
    request = bytes((IP if family == 4 else IPv6)(src=source, dst=target) / inner)
    with vnet.Lan(None, BOTH) as lan:
        nic, _ = lan.attach("a"), lan.host("h")
        nic.send(request)
        theirs = nic.recv(timeout=5)
    ours = echo(request)
    assert ours is not None
    # All that is theirs to choose: identification, flags and hops of the header, and its sum.
    at = 20 if family == 4 else 40
    assert ours[at:] == theirs[at:]
    assert ours[at - (8 if family == 4 else 32) : at] == theirs[at - (8 if family == 4 else 32) : at]
    if family == 4:
        rebuilt = IP(ours)
        del rebuilt.chksum
        assert bytes(rebuilt) == ours


@pytest.mark.parametrize("other", [b"", b"\x45" * 28, datagram("10.0.0.1", "10.0.0.2", b"udp....."), bytes(60)])
def test_echo_answers_nothing_else(other: bytes) -> None:
    assert echo(other) is None


def test_a_program_that_takes_a_nic_takes_a_fake() -> None:
    def ask(nic: vnet.Nic | FakeNic, request: bytes) -> bytes | None:
        while nic.send(request) is Verdict.BUFFER_FULL:
            pass
        try:
            return nic.recv(timeout=0.01)
        except vnet.ReceiveTimeout:
            return None

    with FakeLan(prefix=BOTH) as lan:
        nic = lan.attach("me")
        lan.peer("silent", lambda _: None)
        nic.order(Verdict.BUFFER_FULL, 3)
        assert ask(nic, datagram(nic.address, "10.0.0.2")) is None
        assert [verdict.name for _, verdict in nic.sent] == ["BUFFER_FULL"] * 3 + ["DELIVERED"]


def test_what_the_package_shows_is_so() -> None:
    done = doctest.testmod(vnet.testing)
    assert done.attempted > 3
    assert done.failed == 0


def test_those_who_want_fakes_import_no_labs() -> None:
    program = (
        "import sys, vnet.testing; print([name for name in sys.modules if name.startswith(('vnet.lab', 'pydantic'))]); "
        "print(vnet.testing.LiveLab.__name__, vnet.testing.Guest.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", "LiveLab Guest"]
    with pytest.raises(AttributeError, match="FakeLam"):
        _ = vnet.testing.FakeLam
