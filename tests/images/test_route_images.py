"""Route tables out of images: they say the same, change like others, and one copy serves many processes."""

from __future__ import annotations

import gzip
import ipaddress
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import support

import vnet
from vnet.images import cache_directory


def prefixes(count: int, seed: int = 5) -> list[str]:
    """Prefixes of both families, in no order; many are inside of others, and so are the LAN's own."""
    chance = random.Random(seed)
    found = ["0.0.0.0/0", "fd00::/8", "10.0.0.0/8"]
    while len(found) < count:
        if chance.random() < 0.8:
            length = chance.choice([8, 12, 16, 20, 22, 24, 24, 24, 28, 32])
            address = chance.getrandbits(32) >> (32 - length) << (32 - length)
            found.append(f"{ipaddress.IPv4Address(address)}/{length}")
        else:
            length = chance.choice([32, 40, 48, 48, 56, 64, 128])
            address = (0x2000 << 112 | chance.getrandbits(116)) >> (128 - length) << (128 - length)
            found.append(f"{ipaddress.IPv6Address(address)}/{length}")
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "outside.txt"
    path.write_text("".join(f"{prefix}\n" for prefix in prefixes(20_000)))
    return path


def lan_with(name: str | None = None, **settings: object) -> vnet.Lan:
    """Two networks, a router between them, and a guest on either that much lies behind."""
    lan = vnet.Lan(name, **settings)  # type: ignore[arg-type]
    lan.add_network("west", ["10.1.0.0/24", "fd01::/64"])
    lan.add_network("east", ["10.2.0.0/24", "fd02::/64"])
    lan.router("edge", ["west", "east"])
    lan.host("alice", ["10.1.0.20", "fd01::20"], network="west")
    lan.host("isp", ["10.2.0.20", "fd02::20"], network="east")
    return lan


def image() -> Path:
    """The file of the only image."""
    directory = cache_directory()
    assert directory is not None
    (found,) = directory.glob("*.img")
    return found


def samples(seed: int = 1) -> list[str]:
    """Addresses at random, and the first and last of prefixes."""
    chance = random.Random(seed)
    found = [str(ipaddress.IPv4Address(chance.getrandbits(32))) for _ in range(500)]
    for text in chance.sample(prefixes(20_000), 500):
        prefix = ipaddress.ip_network(text)
        found += [str(prefix.network_address), str(prefix.broadcast_address)]
    return [*found, "10.1.0.20", "10.2.0.1", "10.2.1.1", "fd01::20", "fd02::99", "fd03::1"]


def said(lan: vnet.Lan) -> list[int]:
    """The classes that senders find."""
    return [lan._base.routes().class_of(address) for address in samples()]


def delivered(lan: vnet.Lan, destination: str) -> str:
    source = "fd01::20" if ":" in destination else "10.1.0.20"
    return lan.inject("alice", [support.datagram(source, destination, b"x" * 8)])[0].name.lower()


def test_the_first_lan_compiles_the_table_and_the_second_maps_it(table: Path) -> None:
    with lan_with() as plain:
        # Some are there twice.
        loaded = plain.routes.load(table, via="isp")
        expected, count = said(plain), len(plain.routes)
        assert (loaded, count) == (20_000, len(set(prefixes(20_000))))
        assert plain.images == ()
    for built in (True, False):
        with lan_with(images=True) as lan:
            assert lan.routes.load(table, via="isp") == loaded
            (use,) = lan.images
            assert (use.section, use.mapped, use.built, use.why) == ("routes", True, built, "")
            assert use.label == "routes of outside.txt"
            assert image().stem == use.key
            assert len(lan.routes) == count
            assert said(lan) == expected
            assert delivered(lan, "203.0.113.7") == "delivered"
            # Looking closer copies nothing out of the file that senders would see.
            assert lan.routes.look_up("10.9.9.9") == vnet_match("10.0.0.0/8")
            assert said(lan) == expected


def vnet_match(prefix: str) -> object:
    from vnet.routes import Match

    return Match(prefix, "outside", "10.2.0.20")


def test_what_is_added_and_removed_later_leaves_the_image_as_it_is(table: Path) -> None:
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    before = image().read_bytes()
    with lan_with() as plain, lan_with(images=True) as lan:
        for each in (plain, lan):
            each.routes.load(table, via="isp")
            each.routes.add("203.0.113.0/25", via="unreachable")
            each.routes.remove("fd00::/8")
        assert not lan.images[0].built
        assert said(lan) == said(plain)
        assert list(lan.routes) == list(plain.routes)
        for destination in ("203.0.113.7", "203.0.113.200", "fd03::1", "10.2.0.20"):
            assert delivered(lan, destination) == delivered(plain, destination)
        assert delivered(lan, "203.0.113.7") != delivered(lan, "203.0.113.200") == "delivered"
    assert image().read_bytes() == before


def test_routers_that_come_later_are_in_the_table(table: Path) -> None:
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    with lan_with() as plain, lan_with(images=True) as lan:
        for each in (plain, lan):
            each.routes.load(table, via="isp")
            each.add_network("far", "10.3.0.0/24")
            each.router("inner", ["east", "far"])
            each.host("carol", "10.3.0.20", network="far")
        assert said(lan) == said(plain)
        assert delivered(lan, "10.3.0.20") == delivered(plain, "10.3.0.20") == "delivered"
        assert delivered(lan, "203.0.113.7") == "delivered"


def test_a_network_falls_back_to_what_covers_it_outside(table: Path) -> None:
    """The class of a network's prefix has the prefix around it as its parent, which the image has to tell."""
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    with lan_with() as plain, lan_with(images=True) as lan:
        for each in (plain, lan):
            each.routes.load(table, via="isp")
        for prefix in ("10.1.0.0/24", "10.2.0.0/24", "fd01::/64", "fd02::/64"):
            around = lan._base.routes().covering(prefix)
            assert around is not None
            assert around == plain._base.routes().covering(prefix)


@pytest.mark.parametrize("what", ["text", "networks", "family"])
def test_another_table_is_another_image(table: Path, tmp_path: Path, what: str) -> None:
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    with lan_with(images=True) as lan:
        if what == "networks":
            lan.add_network("more", "10.4.0.0/24")
            lan.router("other", ["more"])
        if what == "text":
            other = tmp_path / "other.txt"
            other.write_text(table.read_text() + "198.51.100.0/24\n")
            lan.routes.load(other, via="isp")
        else:
            lan.routes.load(table, via="isp", family=4 if what == "family" else None)
        assert lan.images[0].built
    directory = cache_directory()
    assert directory is not None
    assert len(list(directory.glob("*.img"))) == 2


def test_one_image_serves_whoever_the_next_hop_is(table: Path) -> None:
    """The table says classes; who stands for a class says the plan."""
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="alice")
        assert not lan.images[0].built
        source, destination = "10.2.0.20", "203.0.113.7"
        before = lan.statistics().nics["alice"].rx_datagrams
        lan.inject("isp", [support.datagram(source, destination, b"x" * 8)])
        assert support.eventually(lambda: lan.statistics().nics["alice"].rx_datagrams == before + 1)


def test_a_gzipped_table_is_kept_too(table: Path, tmp_path: Path) -> None:
    packed = tmp_path / "outside.txt.gz"
    packed.write_bytes(gzip.compress(table.read_bytes(), mtime=0))
    expected = None
    for built in (True, False):
        with lan_with(images=True) as lan:
            lan.routes.load(packed, via="isp")
            assert (lan.images[0].built, lan.images[0].mapped) == (built, True)
            expected = expected or said(lan)
            assert said(lan) == expected


def test_what_is_wrong_with_a_list_is_told_as_without_images(table: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(table.read_text() + "300.1.2.0/24\n")
    messages = []
    for images in (False, True):
        with lan_with(images=images) as lan:
            with pytest.raises(vnet.AddressError) as told:
                lan.routes.load(wrong, via="isp")
            messages.append(str(told.value))
            assert len(lan.routes) == 0
    assert messages[0] == messages[1]
    assert "line 20001" in messages[0]
    directory = cache_directory()
    assert directory is not None
    assert list(directory.iterdir()) == []


def test_a_second_list_goes_on_top_of_an_image(table: Path) -> None:
    more = [f"100.64.{number}.0/24" for number in range(200)]
    with lan_with() as plain, lan_with(images=True) as lan:
        for each in (plain, lan):
            each.routes.load(table, via="isp")
            each.routes.load(more, via="blackhole")
        assert said(lan) == said(plain)
        assert delivered(lan, "100.64.7.7") == delivered(plain, "100.64.7.7") != "delivered"


def test_a_few_routes_are_not_worth_a_file() -> None:
    with lan_with(images=True) as lan:
        lan.routes.load(prefixes(1000), via="isp")
        assert lan.images == ()


def test_a_guest_that_was_there_before_finds_the_table_in_the_lan_s_own_memory(
    table: Path, guest: Callable[..., support.Guest]
) -> None:
    with lan_with("office", images=True) as lan:
        early = guest(
            """
nic = vnet.attach("office", "early", ["10.1.0.40", "fd01::40"], network="west")
say("in"); hear()
say(nic.send(datagram("10.1.0.40", "203.0.113.7", b"x" * 8)).name, len(nic.segment.images()))
"""
        )
        assert early.hear() == "in"
        lan.routes.load(table, via="isp")
        assert lan.images == ()
        early.say()
        assert early.hear() == "DELIVERED 0"


_USER = """
sys.path.insert(0, sys.argv[1])
from test_route_images import lan_with
lan = lan_with("user-" + str(os.getpid()), images=True)
lan.routes.load(sys.argv[2], via="isp")
assert not lan.images[0].built
# Every word of it is looked at.
say(len(vnet._native.section_words(lan._base, "routes")))
hear()
lan.close()
"""


def test_processes_that_use_a_table_have_one_copy_between_them(
    tmp_path: Path, guest: Callable[..., support.Guest]
) -> None:
    table = tmp_path / "large.txt"
    table.write_text("".join(f"{prefix}\n" for prefix in prefixes(200_000)))
    with lan_with(images=True) as lan:
        lan.routes.load(table, via="isp")
    users = [guest(_USER, str(Path(__file__).parent), str(table)) for _ in range(10)]
    (size,) = {int(each.hear(60)) for each in users}
    assert size > 1 << 20
    shares = [shared(each.pid, image()) for each in users]
    # Resident in each of them, and all together as much as one.
    assert min(rss for rss, _ in shares) >= size
    assert sum(pss for _, pss in shares) == pytest.approx(size, rel=0.1)


def shared(pid: int, path: Path) -> tuple[int, int]:
    """Resident and proportional bytes of a mapping: proc_pid_smaps(5)."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.MULTILINE)
    (mapping,) = [each for each in blocks if each.partition("\n")[0].endswith(str(path))]
    found = {key: int(value) * 1024 for key, value in re.findall(r"^(Rss|Pss): +(\d+) kB$", mapping, re.MULTILINE)}
    return found["Rss"], found["Pss"]
