"""Plans out of images: routers do the same, changes are the same, and one copy serves many processes."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import support

import vnet
from vnet.images import cache_directory

# Enough routers for a plan to be kept.
ROUTERS = 720


def ring(name: str | None = None, **settings: object) -> vnet.Lan:
    """A ring of routers with a network on either side of it, and a host on each network."""
    lan = vnet.Lan(name, max_nics=1024, **settings)  # type: ignore[arg-type]
    try:
        lan.add_network("west", "10.1.0.0/24")
        lan.add_network("east", "10.2.0.0/24")
        with lan.routing.batch():
            for number in range(ROUTERS):
                lan.router(f"r{number}", {0: ["west"], 30: ["east"]}.get(number, ()))
            for number in range(ROUTERS):
                lan.link(f"r{number}", f"r{(number + 1) % ROUTERS}")
        lan.host("alice", "10.1.0.20", network="west")
        lan.host("bob", "10.2.0.20", network="east")
    except BaseException:
        lan.close()
        raise
    return lan


def image() -> Path:
    """The file of the only image."""
    directory = cache_directory()
    assert directory is not None
    (found,) = directory.glob("*.img")
    return found


def journey(lan: vnet.Lan) -> tuple[vnet.Verdict, ...]:
    """What comes of datagrams from one side to the other, with enough hops left and with too few."""
    answers = []
    for ttl in (64, 32, 31, 5):
        answers.append(lan.inject("alice", [support.datagram("10.1.0.20", "10.2.0.20", b"x" * 8, ttl=ttl)])[0])
    return tuple(answers)


def test_the_first_lan_compiles_and_the_second_maps() -> None:
    with ring() as plain:
        expected = journey(plain)
        assert plain.images == ()
    # 31 routers are crossed.
    assert [verdict.name.lower() for verdict in expected] == ["delivered", "delivered", "ttl_exceeded", "ttl_exceeded"]
    for built in (True, False):
        with ring(images=True) as lan:
            (use,) = lan.images
            assert (use.section, use.mapped, use.built, use.why) == ("plan", True, built, "")
            assert use.label == f"plan of {ROUTERS} routers and {2 * ROUTERS + 2:,} ports"
            assert image().stem == use.key
            assert journey(lan) == expected


def test_what_changes_at_run_time_leaves_the_image_as_it_is() -> None:
    ring(images=True).close()
    before = image().read_bytes()
    with ring() as plain, ring(images=True) as lan:
        assert not lan.images[0].built
        for each in (plain, lan):
            # The other way round the ring is too long for a TTL.
            each.links["r3-r4"].cut()
        assert journey(lan) == journey(plain)
        assert journey(lan)[0] is not vnet.Verdict.DELIVERED
        for each in (plain, lan):
            each.links["r3-r4"].mend()
            each.links["r7-r8"].weight = 5
        assert journey(lan) == journey(plain)
        assert journey(lan)[0] is vnet.Verdict.DELIVERED
        for each in (plain, lan):
            each.link("r1", "r29", name="short")
        assert journey(lan) == journey(plain)
        assert journey(lan)[2] is vnet.Verdict.DELIVERED
    assert image().read_bytes() == before


def test_another_topology_is_another_image() -> None:
    ring(images=True).close()
    with ring(images=True) as lan:
        assert not lan.images[0].built
    directory = cache_directory()
    assert directory is not None
    with vnet.Lan(None, max_nics=1024, images=True) as lan:
        with lan.routing.batch():
            for number in range(ROUTERS):
                lan.router(f"r{number}")
            for number in range(ROUTERS - 1):
                lan.link(f"r{number}", f"r{number + 1}", weight=2)
        assert lan.images[0].built
    assert len(list(directory.glob("*.img"))) == 2


def test_a_damaged_image_is_compiled_anew_and_told() -> None:
    ring(images=True).close()
    path = image()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)
        file.seek(100_000)
        file.write(bytes([byte[0] ^ 1]))
    with ring() as plain, ring(images=True) as lan:
        (use,) = lan.images
        assert (use.built, use.mapped, use.why) == (True, True, 'its section "plan" is damaged')
        assert journey(lan) == journey(plain)


def test_who_wants_no_images_gets_none_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VNET_CACHE", "off")
    with ring(images=True) as lan, ring() as plain:
        assert lan.images == ()
        assert journey(lan) == journey(plain)


def test_a_cache_that_cannot_be_used_is_a_warning_once_and_the_lan_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VNET_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match=r"is not kept for the next time: .* cannot be made: not a dir") as told:
        lan = ring(images=True)
    with lan, ring() as plain:
        (use,) = lan.images
        assert (use.built, use.mapped) == (True, False)
        assert journey(lan) == journey(plain)
        lan.links["r3-r4"].cut()
        assert journey(lan)[0] is not vnet.Verdict.DELIVERED
    assert len(told) == 1
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ring(images=said.append).close()
    assert len(said) == 1


def test_guests_of_other_processes_are_given_the_image(guest: Callable[..., support.Guest]) -> None:
    with ring("office", images=True) as lan:
        lan.reserve("carol", "10.1.0.30", network="west")
        carol = guest(
            """
nic = vnet.attach("office", "carol")
for ttl in (64, 5):
    say(nic.send(datagram("10.1.0.30", "10.2.0.20", b"x" * 8, ttl=ttl)).name)
say(*[line.split()[-1] for line in open("/proc/self/maps") if line.rstrip().endswith(".img")])
"""
        )
        assert (carol.hear(), carol.hear() != "DELIVERED") == ("DELIVERED", True)
        assert carol.hear() == str(image())


def test_a_guest_that_was_there_before_goes_by_the_lan_s_own_memory(guest: Callable[..., support.Guest]) -> None:
    with vnet.Lan("office", ["10.9.0.0/24"], max_nics=1024, images=True) as lan:
        early = guest('nic = vnet.attach("office", "early"); say("in"); hear(); say(nic.segment.images())')
        assert early.hear() == "in"
        with lan.routing.batch():
            for number in range(ROUTERS):
                lan.router(f"r{number}", {0: ["lan"]}.get(number, ()))
            for number in range(ROUTERS - 1):
                lan.link(f"r{number}", f"r{number + 1}")
        assert lan.images == ()
        early.say()
        assert early.hear() == "[]"


_USER = """
sys.path.insert(0, sys.argv[1])
from test_plan_images import ring, journey
lan = ring(images=True)
assert not lan.images[0].built
# Every word of it is looked at.
words = vnet._native.section_words(lan._base, "plan")
say(len(words))
hear()
lan.close()
"""


def test_processes_that_use_an_image_have_one_copy_between_them(guest: Callable[..., support.Guest]) -> None:
    ring(images=True).close()
    users = [guest(_USER, str(Path(__file__).parent)) for _ in range(10)]
    (size,) = {int(each.hear(60)) for each in users}
    shares = [_proportional(each.pid, image()) for each in users]
    # Resident in each of them, and all together as much as one.
    assert min(rss for rss, _ in shares) >= size
    assert sum(pss for _, pss in shares) == pytest.approx(size, rel=0.1)


def _proportional(pid: int, path: Path) -> tuple[int, int]:
    """Resident and proportional bytes of a mapping: proc_pid_smaps(5)."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    block = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    (mapping,) = [each for each in block if each.partition("\n")[0].endswith(str(path))]
    found = {key: int(value) * 1024 for key, value in re.findall(r"^(Rss|Pss): +(\d+) kB$", mapping, re.MULTILINE)}
    return found["Rss"], found["Pss"]


def test_the_command_line_shows_who_has_an_image_mapped() -> None:
    import json
    import subprocess

    with ring(images=True) as lan:
        command = [sys.executable, "-m", "vnet", "image", "show", lan.images[0].key[:16], "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        shown = json.loads(done.stdout)
        assert (shown["state"], shown["label"], shown["mapped_by"]) == ("fit", lan.images[0].label, [os.getpid()])
