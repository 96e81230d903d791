"""Where LANs are found, by whom, and what is said when they are not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Guest

import vnet
from vnet import _native
from vnet.control import describe
from vnet.runtime import live_names

Start = Callable[..., Guest]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")

NOBODY = 65_534


def test_a_lan_that_is_not_there_is_named_with_those_that_are(named: vnet.Lan) -> None:
    with pytest.raises(vnet.LanNotFound, match=r"'home'.*up are office"):
        vnet.attach("home", "a")
    named.close()
    with pytest.raises(vnet.LanNotFound, match="no LAN of this user is up"):
        vnet.attach("office", "a")
    with pytest.raises(ValueError, match="cannot name"):
        vnet.attach("../office", "a")
    with pytest.raises(vnet.AddressError):
        vnet.attach("office", "a", [1])  # type: ignore[list-item]


def test_live_lans_can_be_listed_and_described(named: vnet.Lan) -> None:
    with vnet.Lan("attic", "10.0.0.0/24"):
        assert live_names() == ["attic", "office"]
    nic = named.attach("a")
    found = describe("office")
    assert found["pid"] == os.getpid()
    assert found["networks"] == [{"name": "lan", "prefixes": ["10.0.0.0/24", "fd00::/64"], "mtu": 65_535}]
    assert [(each["name"], each["addresses"]) for each in found["nics"]] == [("a", list(nic.addresses))]


def test_a_name_is_taken_until_its_lan_ends(named: vnet.Lan) -> None:
    with pytest.raises(vnet.NameTaken, match="'office'"):
        vnet.Lan("office", "10.0.0.0/24")
    named.close()
    vnet.Lan("office", "10.0.0.0/24").close()


# The runtime directory


def test_without_a_runtime_directory_there_is_another(guest: Start, runtime_directory: Path) -> None:
    program = """
from vnet.runtime import runtime_directory
say(runtime_directory())
with vnet.Lan(sys.argv[1], "10.0.0.0/24"):
    vnet.attach(sys.argv[1], "a").close()
"""
    name = f"t{os.getpid()}"
    places = []
    for value in (None, "", str(runtime_directory / "missing")):
        environment = {key: text for key, text in os.environ.items() if key != "XDG_RUNTIME_DIR"}
        if value is not None:
            environment["XDG_RUNTIME_DIR"] = value
        process = guest(program, name, env=environment)
        places.append(process.hear())
        assert process.end() == (0, "", "")
        assert not Path(places[-1], f"{name}.sock").exists()
    expected = "/run/vnet" if os.geteuid() == 0 else f"{tempfile.gettempdir()}/vnet-{os.geteuid()}"
    assert places == [expected] * 3


def test_a_deep_runtime_directory_works_though_a_sockets_path_is_short(
    runtime_directory: Path, monkeypatch: pytest.MonkeyPatch, guest: Start
) -> None:
    deep = runtime_directory.joinpath(*["d" * 100] * 5)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with vnet.Lan("deep", "10.0.0.0/24") as lan:
        with pytest.raises(vnet.NameTaken):
            vnet.Lan("deep")
        assert live_names() == ["deep"]
        process = guest('nic = vnet.attach("deep", "a"); say(nic.address); nic.close()')
        assert process.hear() == "10.0.0.1"
        assert lan.name == "deep"
    assert not list(deep.iterdir())
    shutil.rmtree(runtime_directory / ("d" * 100))


def test_a_runtime_directory_that_is_no_directory_is_named(runtime_directory: Path) -> None:
    place = runtime_directory / "vnet"
    place.write_text("a file")
    with pytest.raises(vnet.VnetError, match="cannot be the runtime directory"):
        vnet.Lan("office")
    with pytest.raises(vnet.LanNotFound):
        vnet.attach("office", "a")
    place.unlink()
    elsewhere = runtime_directory / "elsewhere"
    elsewhere.mkdir()
    place.symlink_to(elsewhere)
    # Whoever made the link may point it anywhere.
    with pytest.raises(vnet.VnetError, match="cannot be the runtime directory"):
        vnet.Lan("office")
    place.unlink()
    elsewhere.rmdir()


def test_a_runtime_directory_that_others_may_write_to_is_refused(runtime_directory: Path) -> None:
    place = runtime_directory / "vnet"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(vnet.NotPermitted, match="write"):
        vnet.Lan("office")
    place.rmdir()


def _unprivileged(program: str) -> str:
    return f"os.setgid({NOBODY}); os.setuid({NOBODY})\n" + program


@needs_root
def test_a_runtime_directory_that_cannot_be_written_is_named(guest: Start, runtime_directory: Path) -> None:
    runtime_directory.chmod(0o755)
    process = guest(
        _unprivileged("""
try:
    vnet.Lan("office")
except vnet.VnetError as error:
    say(error)
""")
    )
    assert process.hear() == f"{runtime_directory}/vnet cannot be made: Permission denied"
    assert process.end() == (0, "", "")


@needs_root
def test_another_users_runtime_directory_is_refused(guest: Start, runtime_directory: Path) -> None:
    place = runtime_directory / "vnet"
    place.mkdir(mode=0o755)
    runtime_directory.chmod(0o755)
    os.chown(place, 1, 1)
    with pytest.raises(vnet.NotPermitted, match="user 1"):
        vnet.Lan("office")
    process = guest(
        _unprivileged("""
try:
    vnet.Lan("office")
except vnet.NotPermitted as error:
    say("refused")
""")
    )
    assert process.hear() == "refused"
    place.rmdir()


_TRY = """
try:
    vnet.attach("office", "a")
except vnet.VnetError as error:
    say(type(error).__name__, error)
"""


@needs_root
@pytest.mark.parametrize("doors", ["closed", "open"])
def test_another_user_is_refused_by_the_directory_or_else_by_the_base(
    named: vnet.Lan, guest: Start, runtime_directory: Path, doors: str
) -> None:
    runtime_directory.chmod(0o755)
    if doors == "open":
        (runtime_directory / "vnet").chmod(0o755)
        (runtime_directory / "vnet" / "office.sock").chmod(0o777)
    process = guest(_unprivileged(_TRY))
    heard = process.hear()
    assert heard.startswith("NotPermitted")
    assert ("user 65534" in heard) == (doors == "open")
    assert not named.nics


@needs_root
def test_a_base_that_another_user_put_in_the_way_is_not_trusted(guest: Start, runtime_directory: Path) -> None:
    runtime_directory.chmod(0o777)
    process = guest(_unprivileged('lan = vnet.Lan("office", "10.0.0.0/24"); say("up"); hear()'))
    assert process.hear() == "up"
    # root may look after everybody's LANs.
    vnet.attach("office", "root").close()
    victim = guest("os.setgid(1); os.setuid(1)\n" + _TRY)
    (runtime_directory / "vnet").chmod(0o755)
    (runtime_directory / "vnet" / "office.sock").chmod(0o777)
    assert victim.hear().startswith("NotPermitted")
    assert process.end() == (0, "", "")


# Other versions


@pytest.fixture
def socket_of(named: vnet.Lan, runtime_directory: Path) -> Iterator[Callable[[], socket.socket]]:
    opened = []

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(runtime_directory / "vnet" / "office.sock"))
        opened.append(connection)
        return connection

    yield connect
    for each in opened:
        each.close()


@pytest.mark.parametrize("abi", [0, _native.ABI + 1, -1, 2**70, "1", None, 1.5, [1]])
def test_a_guest_of_another_version_is_refused_with_both_versions(
    socket_of: Callable[[], socket.socket], abi: object
) -> None:
    connection = socket_of()
    connection.sendall(json.dumps({"do": "attach", "nic": "a", "abi": abi}).encode() + b"\n")
    reply = json.loads(connection.makefile().readline())
    assert (reply["ok"], reply["error"]) == (False, "AbiMismatch")
    assert f"version {_native.ABI}" in reply["message"]
    assert repr(abi) in reply["message"]
    assert connection.recv(1) == b""


def test_a_guest_says_so_when_the_base_is_of_another_version(guest: Start) -> None:
    older = guest("""
from unittest.mock import Mock
from vnet import control
control._native = Mock(ABI=vnet._native.ABI - 1)
lan = vnet.Lan("old", "10.0.0.0/24")
say("up")
hear()
""")
    assert older.hear() == "up"
    with pytest.raises(vnet.AbiMismatch, match=f"base has ABI version {_native.ABI - 1}, you have {_native.ABI}"):
        vnet.attach("old", "a")
    assert older.end() == (0, "", "")


def _doctored(segment: _native.Segment, at: int, data: bytes) -> int:
    """A copy of the tables with other bytes at one place, as a memory file."""
    tables = segment.files()[0]
    size = os.fstat(tables).st_size
    fd = os.memfd_create("doctored")
    os.truncate(fd, size)
    content = bytearray(os.pread(tables, size, 0))
    content[at : at + len(data)] = data
    os.pwrite(fd, content, 0)
    return fd


@pytest.mark.parametrize(
    ("at", "data", "error", "words"),
    [
        (0, b"vnet-wan", vnet.ProtocolError, "not a vnet LAN"),
        (0, b"nal-tenv", vnet.ProtocolError, "not a vnet LAN"),  # the other byte order
        (8, (_native.ABI + 1).to_bytes(4, "little"), vnet.AbiMismatch, f"{_native.ABI + 1}.*{_native.ABI}"),
        (12, b"\xff\xff\xff\xff", vnet.ProtocolError, "damaged"),  # NIC slots
        (12, b"\0\0\0\0", vnet.ProtocolError, "damaged"),
        (20, b"\x03\0\0\0", vnet.ProtocolError, "damaged"),  # buckets, not a power of two
        (20, b"\0\0\x10\0", vnet.ProtocolError, "damaged"),  # buckets, more than there is memory for
        (24, b"\0\0\0\x80", vnet.ProtocolError, "damaged"),
        (32, b"\0\0\0\0\0\0\0\x80", vnet.ProtocolError, "damaged"),  # bytes of a ring
        (32, b"\0\0\0\x40\0\0\0\0", vnet.ProtocolError, "damaged"),  # rings beyond the other file
    ],
)
def test_tables_that_contradict_themselves_are_refused(
    lan: vnet.Lan, at: int, data: bytes, error: type[Exception], words: str
) -> None:
    fd = _doctored(lan._segment, at, data)
    try:
        with pytest.raises(error, match=words):
            _native.Segment.attach([fd, *lan._segment.files()[1:]], lan._segment.alarms())
    finally:
        os.close(fd)


def test_what_is_no_memory_file_is_refused(lan: vnet.Lan, tmp_path: Path) -> None:
    tables, buffers, routing = lan._segment.files()
    empty = os.open(tmp_path / "empty", os.O_RDWR | os.O_CREAT)
    short = os.open(tmp_path / "short", os.O_RDWR | os.O_CREAT)
    os.write(short, b"vnet-lan")
    reading, writing = os.pipe()
    try:
        for first, second, third in (
            (empty, buffers, routing),
            (short, buffers, routing),
            (reading, buffers, routing),
            (tables, short, routing),
            (tables, empty, routing),
            (tables, buffers, short),
            (tables, buffers, empty),
        ):
            with pytest.raises((vnet.ProtocolError, OSError)):
                _native.Segment.attach([first, second, third], lan._segment.alarms())
        for wrong in (-1, 1 << 20):
            with pytest.raises((ValueError, OSError)):
                _native.Segment.attach([wrong, buffers, routing], lan._segment.alarms())
        for few in ([], [tables, buffers], [tables, buffers, routing, empty, empty]):
            with pytest.raises(ValueError, match="three memory files"):
                _native.Segment.attach(few, lan._segment.alarms())
    finally:
        for fd in (empty, short, reading, writing):
            os.close(fd)


def test_the_kernel_keeps_guests_from_writing_the_tables(named: vnet.Lan, guest: Start) -> None:
    process = guest("""
import mmap
nic = vnet.attach("office", "a")
tables, buffers, routing = nic.segment.files()
for attempt in (lambda: mmap.mmap(tables, 4096), lambda: os.pwrite(tables, b"x", 0), lambda: os.ftruncate(tables, 0),
                lambda: os.ftruncate(buffers, 0), lambda: os.truncate(f"/proc/self/fd/{tables}", 0),
                lambda: os.pwrite(os.open(f"/proc/self/fd/{tables}", os.O_RDWR), b"x", 0),
                lambda: mmap.mmap(routing, 4096), lambda: os.pwrite(routing, b"x", 0), lambda: os.ftruncate(routing, 0),
                lambda: os.pwrite(os.open(f"/proc/self/fd/{routing}", os.O_RDWR), b"x", 0)):
    try:
        attempt()
    except OSError:
        continue
    say("went through")
say("done")
nic.close()
""")
    assert process.hear() == "done"


# Bases that are none


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"hello\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"[]\n",
        b"{}\n",
        b'{"ok": true}\n',
        b'{"ok": true, "slot": 1}\n',
        b'{"ok": false}\n',
        b'{"ok": false, "error": "SystemExit", "message": "no"}\n',
        b'{"ok": false, "error": "LabError", "message": "no"}\n',
        b'{"ok": "yes"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_whatever_answers_in_a_bases_place_gives_one_of_our_errors(runtime_directory: Path, answer: bytes) -> None:
    (runtime_directory / "vnet").mkdir(mode=0o700)
    path = runtime_directory / "vnet" / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(vnet.VnetError):
            vnet.attach("fake", "a")
        thread.join()
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("reply", [{}, {"slot": "x"}, {"slot": 1, "generation": 1}, {"slot": None}])
def test_an_answer_that_lacks_something_is_a_protocol_error(
    lan: vnet.Lan, runtime_directory: Path, reply: dict[str, object]
) -> None:
    (runtime_directory / "vnet").mkdir(mode=0o700)
    path = runtime_directory / "vnet" / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                data = json.dumps({"ok": True, **reply}).encode() + b"\n"
                socket.send_fds(connection, [data], [*lan._segment.files(), *lan._segment.alarms()])

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(vnet.ProtocolError):
            vnet.attach("fake", "a")
        thread.join()
    path.unlink()
    path.parent.rmdir()
