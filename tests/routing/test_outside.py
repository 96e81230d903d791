"""What lies outside of a LAN: against a plain list, through routers, from files, in images, and with mistakes."""

from __future__ import annotations

import gzip
import io
import ipaddress
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import datagram, examples

import vnet
from vnet.routes import Match, OutsideRoute

INTERNET = Path(__file__).parents[2].parent / "shared/data/internet-prefixes.txt.gz"


class Office(vnet.Lan):
    """Two networks, a router, and guests that have something behind them."""

    def __init__(self) -> None:
        super().__init__(None)
        self.add_network("desk", ["10.1.0.0/24", "fd00:1::/64"])
        self.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"])
        self.add_network("alone", "10.9.0.0/24")
        self.router("edge", ["desk", "lab"])
        self.alice = self.attach("alice", ["10.1.0.10", "fd00:1::10"], network="desk")
        self.isp = self.attach("isp", ["10.2.0.20", "fd00:2::20"], network="lab")

    def arrives(self, destination: str) -> bool:
        """Whether what alice sends comes to isp, a hop further on."""
        source, place = ("10.1.0.10", 8) if "." in destination else ("fd00:1::10", 7)
        self.alice.send(datagram(source, destination, b"x", ttl=9))
        return any(each[-1:] == b"x" and each[place] == 8 for each in taken(self.isp))


def taken(nic: vnet.Nic) -> list[bytes]:
    """What has come to a NIC."""
    try:
        return nic.recv_many(timeout=0)
    except vnet.ReceiveTimeout:
        return []


@pytest.fixture
def office() -> Iterator[Office]:
    with Office() as lan, lan.alice, lan.isp:
        yield lan


def test_what_lies_behind_a_guest_is_sent_to_it_and_its_ttl_goes_down(office: Office) -> None:
    assert not office.arrives("203.0.113.7")
    office.routes.add("203.0.113.0/24", via="isp")
    office.routes.add("2001:db8::/32", via="fd00:2::20")
    assert office.arrives("203.0.113.7")
    assert office.arrives("2001:db8::1")
    assert not office.arrives("203.0.114.7")
    office.routes.remove("203.0.113.0/24")
    assert not office.arrives("203.0.113.7")
    assert office.arrives("2001:db8::1")


@pytest.mark.parametrize(("word", "code"), [("unreachable", 1), ("prohibit", 13)])
def test_what_all_routers_refuse_is_answered_as_linux_does(office: Office, word: str, code: int) -> None:
    # RFC 792, and RFC 1812 section 5.2.7.1: destination unreachable, host unreachable or administratively prohibited.
    office.routes.add("0.0.0.0/0", via="isp")
    office.routes.add("198.51.100.0/24", via=word)
    taken(office.alice)
    assert not office.arrives("198.51.100.1")
    assert office.arrives("198.51.101.1")
    (answer,) = taken(office.alice)
    assert answer[20:22] == bytes([3, code])
    assert ipaddress.ip_address(answer[12:16]) == ipaddress.ip_address("10.1.0.1")
    # A router that comes later refuses too.
    office.add_network("far", "10.5.0.0/24")
    office.router("other", ["desk", "far"])
    assert not office.arrives("198.51.100.1")


def test_what_goes_into_a_black_hole_is_not_answered(office: Office) -> None:
    office.routes.add("198.51.100.0/24", via="blackhole")
    assert not office.arrives("198.51.100.1")
    assert taken(office.alice) == []


def test_the_default_route_is_for_what_nobody_else_has(office: Office) -> None:
    office.routes.add("0.0.0.0/0", via="isp")
    office.routes.add("::/0", via="isp")
    assert office.arrives("8.8.8.8")
    assert office.arrives("2a00::1")
    with office.attach("bob", "10.2.0.30", network="lab") as bob:
        assert not office.arrives("10.2.0.30")
        assert len(taken(bob)) == 1


def test_what_the_lan_has_itself_counts_before_what_lies_outside(office: Office) -> None:
    # Loaded with many others, the prefix of a network waits until the network is the LAN's no more.
    office.routes.load(["10.1.0.0/24", "10.5.0.0/24", "10.0.0.0/8"], via="isp")
    assert office.routes.look_up("10.1.0.3") == Match("10.1.0.0/24", "network", "desk")
    assert office.routes.look_up("10.5.0.3") == Match("10.5.0.0/24", "outside", "10.2.0.20")
    assert office.routes.look_up("10.6.0.3") == Match("10.0.0.0/8", "outside", "10.2.0.20")
    office.add_network("late", "10.5.0.0/24")
    with office.router("late-router", ["late", "lab"]):
        assert office.routes.look_up("10.5.0.3") == Match("10.5.0.0/24", "network", "late")
        assert office.routes.get("10.5.0.0/24") == "10.2.0.20"
        assert len(office.routes) == 3
    assert office.routes.look_up("10.5.0.3") == Match("10.5.0.0/24", "outside", "10.2.0.20")


def test_a_static_route_of_one_router_leaves_the_others_what_lies_outside(office: Office) -> None:
    office.routes.add("203.0.113.0/24", via="isp")
    with office.attach("carol", "10.1.0.30", network="desk") as carol:
        office.routers["edge"].add_route("203.0.113.0/24", via="10.1.0.30")
        assert not office.arrives("203.0.113.7")
        assert len(taken(carol)) == 1
        office.routers["edge"].remove_route("203.0.113.0/24")
        assert office.arrives("203.0.113.7")
        # What only that router has a longer prefix for: the others go by the shorter one that lies outside.
        office.routers["edge"].add_route("203.0.113.0/25", via="10.1.0.30")
        assert not office.arrives("203.0.113.7")
        assert office.arrives("203.0.113.200")
        office.routes.remove("203.0.113.0/24")
        assert not office.arrives("203.0.113.200")


# --- against a plain list ---------------------------------------------------------------------------------------------

_Net = ipaddress.IPv4Network | ipaddress.IPv6Network


def _prefixes() -> st.SearchStrategy[_Net]:
    """Few bits that differ, so that prefixes nest and follow each other."""

    def cut(bits: int, length: int, version: int) -> _Net:
        width, base = (32, 0xCB00_7100) if version == 4 else (128, 0x2001_0DB8 << 96)
        spread = bits & 0xFF | (bits & 0xFF00) << (width - 24)
        return ipaddress.ip_network(((base ^ spread) >> (width - length) << (width - length), length))

    v4 = st.builds(lambda bits, length: cut(bits, length, 4), st.integers(0, 0xFFFF), st.integers(0, 32))
    v6 = st.builds(lambda bits, length: cut(bits, length, 6), st.integers(0, 0xFFFF), st.integers(0, 128))
    return st.one_of(v4, v6)


_STEPS = ("isp", "blackhole", "unreachable")
_CHANGES = st.one_of(
    st.tuples(st.just("add"), _prefixes(), st.sampled_from(_STEPS)),
    st.tuples(st.just("remove"), st.integers(0, 1 << 30)),
    st.tuples(st.just("load"), st.lists(st.tuples(_prefixes(), st.sampled_from(_STEPS)), max_size=30)),
    st.tuples(st.just("remove_all"), st.sampled_from(_STEPS)),
)
_VIA = {("isp", 4): "10.2.0.20", ("isp", 6): "fd00:2::20"}


def _longest(plain: dict[_Net, str], address: Any) -> _Net | None:
    having = [prefix for prefix in plain if prefix.version == address.version and address in prefix]
    return max(having, key=lambda prefix: prefix.prefixlen, default=None)


@given(st.lists(_CHANGES, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=examples(40), deadline=None)
def test_every_change_is_as_in_a_plain_list(changes: list[Any], chance: random.Random) -> None:
    with vnet.Lan(None) as lan:
        lan.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"])
        lan.router("edge", ["lab"])
        isp = lan.attach("isp", ["10.2.0.20", "fd00:2::20"], network="lab")
        plain: dict[_Net, str] = {}
        routes = lan.routes
        for what, *said in changes:
            if what == "add":
                plain[said[0]] = said[1]
                routes.add(str(said[0]), said[1])
            elif what == "load":
                plain.update(said[0])
                routes.load((str(prefix), via) for prefix, via in said[0])
            elif what == "remove" and plain:
                gone = sorted(plain, key=str)[said[0] % len(plain)]
                del plain[gone]
                routes.remove(str(gone))
            elif what == "remove_all":
                count = sum(via == said[0] for via in plain.values())
                plain = {prefix: via for prefix, via in plain.items() if via != said[0]}
                assert routes.remove_all(said[0]) == count
        assert len(routes) == len(plain)
        order = sorted(plain, key=lambda prefix: (prefix.version, int(prefix.network_address), prefix.prefixlen))
        meant = [
            OutsideRoute(str(prefix), _VIA.get((plain[prefix], prefix.version), plain[prefix])) for prefix in order
        ]
        assert list(routes) == meant
        for prefix in order:
            for address in (prefix[0], prefix[-1], prefix[chance.randrange(prefix.num_addresses)]):
                found, best = routes.look_up(str(address)), _longest(plain, address)
                assert found is not None
                assert best is not None
                if found.kind == "outside":
                    assert found.prefix == str(best)
                    assert found.via == meant[order.index(best)].via
        isp.close()


@pytest.mark.skipif(not INTERNET.exists(), reason=f"{INTERNET} is not there")
def test_a_full_internet_table_is_found_as_a_plain_list_says(office: Office) -> None:
    started = time.monotonic()
    assert office.routes.load(INTERNET, via="isp") == 1_062_046 == len(office.routes)
    assert time.monotonic() - started < 30
    lines = gzip.decompress(INTERNET.read_bytes()).decode().split()
    plain = set(lines)
    chance = random.Random(5)
    for line in chance.sample(lines, 400):
        prefix = ipaddress.ip_network(line)
        address = prefix[chance.randrange(prefix.num_addresses)]
        around = (
            str(ipaddress.ip_network((address, length), strict=False))
            for length in range(address.max_prefixlen, -1, -1)
        )
        longest = next(each for each in around if each in plain)
        assert office.routes.look_up(str(address)) == Match(longest, "outside", _VIA["isp", prefix.version])
    assert office.arrives("8.8.8.8")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.txt", "table.txt.gz"])
def test_what_is_dumped_is_what_is_loaded(office: Office, tmp_path: Path, name: str) -> None:
    chance = random.Random(3)
    for _ in range(500):
        length = chance.randrange(8, 33)
        network = ipaddress.ip_network((chance.getrandbits(32) >> (32 - length) << (32 - length), length))
        office.routes.add(str(network), via=chance.choice(["isp", "prohibit", "10.1.0.10"]))
    before = list(office.routes)
    assert office.routes.dump(tmp_path / name) == len(before)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") is name.endswith(".gz")
    assert office.routes.remove_all() == len(before)
    assert not list(office.routes)
    assert office.routes.load(tmp_path / name) == len(before)
    assert list(office.routes) == before
    text = io.StringIO()
    office.routes.dump(text)
    assert text.getvalue().splitlines() == [f"{route.prefix} {route.via}" for route in before]


def test_a_file_has_comments_and_next_hops_of_its_own(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "table.txt"
    file.write_bytes(
        b"# a table\r\n\r\n203.0.113.0/24\r\n  198.51.100.0/24\tprohibit # closed\n2001:db8::/32 isp\n"
        b"2001:db8:1::/48 fd00:1::10\n192.0.2.1"
    )
    assert office.routes.load(file, via="10.1.0.10") == 5
    assert {route.prefix: route.via for route in office.routes} == {
        "203.0.113.0/24": "10.1.0.10",
        "198.51.100.0/24": "prohibit",
        "2001:db8::/32": "fd00:2::20",
        "2001:db8:1::/48": "fd00:1::10",
        "192.0.2.1/32": "10.1.0.10",
    }
    office.routes.remove_all()
    office.routes.load(file, via=["10.1.0.10", "fd00:1::10"], family=6)
    assert [route.prefix for route in office.routes] == ["2001:db8::/32", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"10.5.0.0/24\n\n10.6.0.1/24\n", 'line 3: "10.6.0.1/24" is no prefix: bits are set behind its length'),
        (b"10.5.0.0/33", 'line 1: "10.5.0.0/33" is no prefix: its length is no number from 0 to 32'),
        (b"desk", 'line 1: "desk" is no prefix: it does not start with an IP address'),
        (b"\xff\xfe\x00", "line 1: "),
        (b"x" * 100_000, "line 1: "),
        (b"10.5.0.0/24 isp lab", "line 1: expected a prefix and at most one word more"),
        (b"10.5.0.0/24\n10.6.0.0/24 nobody", "line 2: 'nobody' is nothing that prefixes can lie behind"),
        (b"10.5.0.0/24\n10.6.0.0/24 edge", "line 2: nothing lies behind router 'edge'"),
        (b"10.5.0.0/24\n\n2001:db8::/32", "line 3: the prefix is IPv6, and '10.2.0.20' has no address of that family"),
        (b"10.5.0.0/24 fd00:2::20", "line 1: the prefix is IPv4, and 'fd00:2::20' has no address of that family"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line_and_nothing_is_loaded(
    office: Office, tmp_path: Path, text: bytes, sentence: str
) -> None:
    for name, data in (("table.txt", text), ("table.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(vnet.AddressError) as caught:
            office.routes.load(tmp_path / name, via="10.2.0.20")
        assert f"{tmp_path / name}, {sentence}" in str(caught.value)
        assert len(str(caught.value)) < 400
        assert len(office.routes) == 0


def test_files_that_cannot_be_read_say_so(office: Office, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        office.routes.load(tmp_path / "nothing", via="isp")
    with pytest.raises(IsADirectoryError):
        office.routes.load(tmp_path, via="isp")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"10.5.0.0/24\n" * 1000)[:-9])
    with pytest.raises(vnet.AddressError, match=r"cut\.gz: the compressed file is damaged"):
        office.routes.load(cut, via="isp")
    (tmp_path / "plain").write_text("10.5.0.0/24\n")
    with pytest.raises(vnet.AddressError, match="line 1: it does not say what the prefix lies behind"):
        office.routes.load(tmp_path / "plain")
    with pytest.raises(ValueError, match="a family is 4 or 6"):
        office.routes.load(tmp_path / "plain", via="isp", family=5)
    (tmp_path / "empty").write_text("# nothing\n")
    assert office.routes.load(tmp_path / "empty") == 0


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "via", "sentence"),
    [
        ("10.5.0.1/24", "isp", "is not a prefix"),
        ("10.1.0.0/24", "isp", "does not lie outside: it is network 'desk'"),
        ("10.5.0.0/24", "edge", "nothing lies behind router 'edge'"),
        ("10.5.0.0/24", "10.1.0.1", "nothing lies behind 10.1.0.1: it is a router of the LAN itself"),
        ("10.5.0.0/24", "10.77.0.1", "on none of the LAN's networks"),
        ("10.5.0.0/24", "10.9.0.7", "on network 'alone', which has no router"),
        ("10.5.0.0/24", "fd00:2::20", "is IPv4, and 'fd00:2::20' has no address of that family"),
        ("10.5.0.0/24", "nobody", "'nobody' is nothing that prefixes can lie behind"),
        ("10.5.0.0/24", "", "is nothing that prefixes can lie behind"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(office: Office, prefix: str, via: str, sentence: str) -> None:
    with pytest.raises(vnet.AddressError, match=sentence):
        office.routes.add(prefix, via)
    assert len(office.routes) == 0


def test_routes_that_are_not_there_cannot_be_removed(office: Office) -> None:
    office.routes.add("10.5.0.0/24", "isp")
    with pytest.raises(ValueError, match=r"there is no route to 10\.5\.0\.0/25 outside of this LAN"):
        office.routes.remove("10.5.0.0/25")
    with pytest.raises(ValueError, match="it is network 'desk'"):
        office.routes.remove("10.1.0.0/24")
    assert "10.5.0.0/24" in office.routes
    assert "10.5.0.0/25" not in office.routes


def test_what_lay_behind_a_guest_that_left_can_be_taken_out_by_its_name(office: Office) -> None:
    office.routes.load(["203.0.113.0/24", "2001:db8::/32"], via="isp")
    office.isp.close()
    assert len(office.routes) == 2
    assert office.routes.remove_all("isp") == 2
    with pytest.raises(vnet.AddressError, match="'stranger' is nothing"):
        office.routes.remove_all("stranger")


def test_a_closed_lan_takes_no_routes() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan:
        routes = lan.routes
    with pytest.raises(vnet.LanClosed):
        routes.add("10.5.0.0/24", "blackhole")
    with pytest.raises(vnet.LanClosed):
        _ = lan.routes


def test_a_lan_without_routers_says_what_is_missing() -> None:
    with vnet.Lan(None, "10.0.0.0/24") as lan, lan.attach("a"), pytest.raises(vnet.AddressError, match="has no router"):
        lan.routes.add("10.5.0.0/24", "a")


def test_routes_change_in_the_middle_of_a_batch(office: Office) -> None:
    with office.routing.batch():
        office.add_network("far", "10.5.0.0/24")
        office.router("other", ["desk", "far"])
        office.routes.add("203.0.113.0/24", via="isp")
        office.routes.add("10.0.0.0/8", via="unreachable")
    assert office.arrives("203.0.113.7")
    assert office.routes.look_up("10.5.0.9") == Match("10.5.0.0/24", "network", "far")


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A list that is long enough to be kept."""
    chance = random.Random(8)
    file = tmp_path / "many.txt"
    v4 = {f"{chance.randrange(1, 224)}.{chance.randrange(256)}.{chance.randrange(256)}.0/24" for _ in range(6000)}
    v6 = {f"2001:{chance.randrange(65536):x}:{chance.randrange(1, 65536):x}::/48" for _ in range(2000)}
    file.write_text("\n".join(sorted(v4 | v6)) + "\n10.0.0.0/8\n")
    return file


def lab(cache: Path, monkeypatch: pytest.MonkeyPatch) -> vnet.Lan:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    lan = vnet.Lan(None, images=True)
    lan.add_network("lab", ["10.2.0.0/24", "fd00:2::/64"])
    lan.router("edge", ["lab"])
    lan.reserve("isp", ["10.2.0.20", "fd00:2::20"], network="lab")
    return lan


def test_a_table_that_was_laid_out_before_is_mapped_and_says_the_same(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for expected_built in (True, False):
        with lab(tmp_path / "cache", monkeypatch) as lan:
            count = lan.routes.load(many, via="isp")
            (use,) = lan.images
            assert (use.section, use.mapped, use.built, use.why) == ("routes", True, expected_built, "")
            assert count == len(lan.routes) == len(many.read_text().split())
            numbers = [lan.routes._table.class_of(route.split("/")[0]) for route in many.read_text().split()]
            assert all(numbers)
            # From here on it is copied out of the image: the routes themselves, changes, what it hides.
            routes = list(lan.routes)
            lan.routes.add("203.0.113.0/24", via="blackhole")
            lan.routes.remove("10.0.0.0/8")
            after = [lan.routes.look_up("10.77.0.1"), lan.routes.look_up("10.2.0.5"), lan.routes.look_up("203.0.113.1")]
            told.append((numbers, routes, after))
    assert told[0] == told[1]
    assert told[0][2][1:] == [Match("10.2.0.0/24", "network", "lab"), Match("203.0.113.0/24", "outside", "blackhole")]


def test_a_list_that_names_next_hops_or_is_wrong_is_in_no_image(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = many.read_text()
    for more, sentence in (("203.0.113.0/24 prohibit\n", ""), ("203.0.113.1/24\n", "many.txt, line ")):
        many.write_text(text + more)
        with lab(tmp_path / "cache", monkeypatch) as lan:
            if sentence:
                with pytest.raises(vnet.AddressError, match=sentence):
                    lan.routes.load(many, via="isp")
                assert len(lan.routes) == 0
            else:
                lan.routes.load(many, via="isp")
                assert lan.routes.get("203.0.113.0/24") == "prohibit"
            assert all(not use.mapped for use in lan.images)
