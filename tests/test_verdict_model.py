"""The verdicts against a model: a plain dictionary of addresses, and Python's ipaddress."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import examples

import vnet
from vnet import Verdict

# Small prefixes, so that random addresses meet.
PREFIXES = {"left": ["10.0.0.0/28", "fd00::/124"], "right": ["10.0.0.16/29"], "six": ["fd01::/125"]}
LARGEST = {"left": 65_535, "right": 600, "six": 1280}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

interesting = [
    *(f"10.0.0.{last}" for last in range(26)),
    *(f"fd00::{last:x}" for last in range(18)),
    *(f"fd01::{last:x}" for last in range(9)),
    *("255.255.255.255", "224.0.0.5", "ff02::1", "fe80::1", "0.0.0.0", "::", "127.0.0.1", "::1", "9.255.255.255"),
]
addresses = st.sampled_from(interesting) | st.ip_addresses().map(str)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    """Bytes of all kinds, most of them with a readable destination."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    destination = ipaddress.ip_address(draw(addresses)).packed
    kind = draw(st.integers(0, 15)) if draw(st.integers(0, 9)) == 0 else (4 if len(destination) == 4 else 6)
    body = draw(st.binary(max_size=20)) * draw(st.sampled_from([1, 1, 1, 30, 60, 70]))
    head = bytes([kind << 4 | draw(st.integers(0, 15))])
    data = head + draw(st.binary(min_size=15, max_size=15)) + (b"" if len(destination) == 4 else bytes(8)) + destination
    data += body
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def destination_of(data: bytes) -> Address | Verdict:
    if len(data) > 65_535:
        return Verdict.TOO_BIG
    if data[:1] and data[0] >> 4 == 4 and len(data) >= 20:
        return ipaddress.IPv4Address(data[16:20])
    if data[:1] and data[0] >> 4 == 6 and len(data) >= 40:
        return ipaddress.IPv6Address(data[24:40])
    return Verdict.MALFORMED


class Model:
    """Who has which address; nothing else decides."""

    def __init__(self) -> None:
        self.nics: dict[Address, str] = {}
        self.down: set[str] = set()
        self.network: dict[str, str] = {}

    def settle(self, sender: str, data: bytes) -> tuple[Verdict, list[str]]:
        """The verdict, and who receives."""
        destination = destination_of(data)
        if isinstance(destination, Verdict):
            return destination, []
        network = self.network[sender]
        receivers = self._receivers(sender, network, destination)
        if isinstance(receivers, Verdict):
            return receivers, []
        # The size is a rule of the path, and there is a path only to somebody.
        return (Verdict.TOO_BIG, []) if len(data) > LARGEST[network] else (Verdict.DELIVERED, receivers)

    def _receivers(self, sender: str, network: str, destination: Address) -> Verdict | list[str]:
        owner = self.nics.get(destination)
        if owner is not None and self.network[owner] == network:
            return Verdict.NIC_DOWN if owner in self.down else [owner]
        prefixes = [ipaddress.ip_network(prefix) for prefix in PREFIXES[network]]
        own = [prefix for prefix in prefixes if prefix.version == destination.version]
        if not own:
            return Verdict.NO_ROUTE
        limited = destination == ipaddress.IPv4Address("255.255.255.255")
        subnet = destination.version == 4 and destination == own[0].broadcast_address
        if limited or subnet or destination.is_multicast:
            up = [name for name, where in self.network.items() if where == network and name not in self.down]
            return [name for name in up if name != sender]
        on_link = destination in own[0] or (
            destination.version == 6 and destination in ipaddress.ip_network("fe80::/10")
        )
        return Verdict.NO_HOST if on_link else Verdict.NO_ROUTE


class Lans(RuleBasedStateMachine):
    """Guests come, go and send in any order; the LAN and the model must agree at every step."""

    # The fakes of vnet.testing are held to the same model.
    make: Callable[..., vnet.Lan] = vnet.Lan

    @initialize()
    def start(self) -> None:
        self.lan = type(self).make(None, max_nics=24, buffer=256 << 10)
        for name, prefixes in PREFIXES.items():
            self.lan.add_network(name, prefixes, mtu=LARGEST[name])
        self.model = Model()
        self.held: dict[str, vnet.Nic] = {}
        self.expected: dict[str, deque[bytes]] = {}
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "lan"):
            for nic in self.held.values():
                nic.close()
            self.lan.close()

    def _enter(self, name: str, network: str, own: tuple[str, ...]) -> None:
        for text in own:
            self.model.nics[ipaddress.ip_address(text)] = name
        self.model.network[name] = network

    def _address_error(self, network: str, text: str) -> type[vnet.AddressError] | None:
        address = ipaddress.ip_address(text)
        for prefix in map(ipaddress.ip_network, PREFIXES[network]):
            if address in prefix:
                usable = set(prefix.hosts())
                if prefix.version == 6:
                    # hosts() leaves out the anycast address, as it should, but the network has a last address too.
                    usable.add(prefix.broadcast_address)
                if address not in usable:
                    return vnet.AddressOutside
                return vnet.AddressTaken if address in self.model.nics else None
        return vnet.AddressOutside

    @rule(network=st.sampled_from(sorted(PREFIXES)), address=st.none() | addresses, reserve=st.booleans())
    def join(self, network: str, address: str | None, reserve: bool) -> None:
        name = f"nic{self.count}"
        self.count += 1
        error = self._address_error(network, address) if address else None
        full = len(self.model.network) >= 24
        try:
            if reserve:
                own = self.lan.reserve(name, address, network=network).addresses
                self.model.down.add(name)
            else:
                nic = self.lan.attach(name, address, network=network)
                own = nic.addresses
                self.held[name] = nic
                self.expected[name] = deque()
        except vnet.NetworkFull:
            assert address is None
            own_prefixes = [ipaddress.ip_network(prefix) for prefix in PREFIXES[network]]
            taken = [sum(each in prefix for each in self.model.nics) for prefix in own_prefixes]
            assert any(count >= prefix.num_addresses - 2 for count, prefix in zip(taken, own_prefixes, strict=True))
            return
        except (vnet.AddressTaken, vnet.AddressOutside) as failure:
            if type(failure) is not error:
                raise
            return
        except vnet.LanFull:
            assert full
            return
        assert error is None
        assert not full
        assert not self.model.nics.keys() & set(map(ipaddress.ip_address, own))
        self._enter(name, network, own)

    @precondition(lambda self: self.model.down)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.down)))
        self.held[name] = self.lan.attach(name)
        self.expected[name] = deque()
        self.model.down.remove(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        nic = self.held.pop(name)
        nic.close()
        del self.expected[name]
        if name in self.lan.nics:
            # A place that was reserved stays reserved.
            self.model.down.add(name)
        else:
            self.model.network.pop(name)
            self.model.nics = {address: owner for address, owner in self.model.nics.items() if owner != name}

    @precondition(lambda self: self.held)
    @rule(data=st.data(), batch=st.lists(datagrams(), max_size=8), way=st.sampled_from(["send", "many", "inject"]))
    def send(self, data: st.DataObject, batch: list[bytes], way: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        settled = [self.model.settle(name, each) for each in batch]
        nic = self.held[name]
        if way == "send":
            verdicts = [nic.send(each) for each in batch]
        else:
            verdicts = nic.send_many(batch) if way == "many" else self.lan.inject(name, batch)
        assert verdicts == [verdict for verdict, _ in settled]
        for each, (_, receivers) in zip(batch, settled, strict=True):
            for receiver in receivers:
                self.expected[receiver].append(each)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        if self.expected[name]:
            assert self.held[name].recv_many(10_000, timeout=0) == list(self.expected[name])
            self.expected[name].clear()
        else:
            try:
                got = self.held[name].recv_many(timeout=0)
            except vnet.ReceiveTimeout:
                return
            raise AssertionError(f"{name} received {got!r}, which nobody sent it")

    @invariant()
    def the_base_knows_the_same_nics(self) -> None:
        if hasattr(self, "lan"):
            assert set(self.lan.nics) == set(self.model.network)


TestLans = Lans.TestCase
TestLans.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.binary(max_size=100) | datagrams(), max_size=20))
def test_no_bytes_crash_a_sender_or_a_host(batch: list[bytes]) -> None:
    with vnet.Lan(None, PREFIXES["left"], max_nics=4, buffer=256 << 10) as lan:
        nic, host = lan.attach("nic"), lan.host("host")
        to_host = [each[:16] + bytes([10, 0, 0, 2]) + each[20:] for each in batch if len(each) >= 20]
        verdicts = nic.send_many(batch + to_host)
        assert sum(nic.statistics().verdicts.values()) == len(verdicts) == len(batch) + len(to_host)
        assert nic.send_many(batch + to_host, block=True, timeout=0) == verdicts
        assert host.ping(nic.address, timeout=0.001).received == 0
        assert lan.nics["host"].state == "up"
