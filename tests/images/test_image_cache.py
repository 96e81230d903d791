"""The cache of images: what is published is found, what is unfit is compiled anew, and nothing of it is ever needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support

from vnet import _native
from vnet.errors import ImageError
from vnet.images import Cache, CacheTrouble, Obtained, Recipe, cache_directory
from vnet.images.keeping import State, listed, prune

ROUTES = bytes(range(256)) * 64
NOBODY = 65534


def recipe(part: object = "a table") -> Recipe:
    return Recipe("a table for a test").add("part", part)


class Compiler:
    """Counts how often it compiled."""

    def __init__(self, wanted: Recipe, words: bytes = ROUTES) -> None:
        self.recipe, self.words, self.count = wanted, words, 0

    def __call__(self) -> Callable[[int], object]:
        self.count += 1
        return lambda fd: _native.image_write(fd, self.recipe.key, self.recipe.label, [("routes", self.words)])


def obtain(wanted: Recipe | None = None, **settings: float) -> tuple[Obtained, int]:
    """What the cache came up with, and how often it had to compile."""
    compiler = Compiler(wanted or recipe())
    return Cache(**settings).obtain(compiler.recipe, compiler), compiler.count  # type: ignore[arg-type]


def routes(came: Obtained) -> bytes:
    """The words of the section, read from the descriptor that would be mapped."""
    ((kind, at, words),) = came.sections
    assert kind == "routes"
    return os.pread(came.fd, 4 * words, at)


@pytest.fixture
def directory() -> Path:
    found = cache_directory()
    assert found is not None
    return found


@pytest.fixture
def published(directory: Path) -> Path:
    """The file of an image that is fit."""
    with obtain()[0]:
        return directory / f"{recipe().key.hex()}.img"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No descriptor of a cache directory or image is left open."""
    yield
    left = [path for path in support.descriptors().values() if path.endswith((".img", ".building", "/images"))]
    assert not left


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_what_one_compiles_the_next_finds(directory: Path) -> None:
    first, compiled = obtain()
    with first:
        assert (compiled, first.built, first.unfit, first.trouble) == (1, True, "", "")
        assert routes(first) == ROUTES
    second, compiled = obtain()
    with second:
        assert (compiled, second.built, second.unfit, second.trouble) == (0, False, "", "")
        assert routes(second) == ROUTES
    assert names(directory) == [f"{recipe().key.hex()}.img"]


def test_a_published_image_can_be_read_by_its_owner_alone_and_written_by_nobody(published: Path) -> None:
    assert stat.S_IMODE(published.stat().st_mode) == 0o400
    assert stat.S_IMODE(published.parent.stat().st_mode) == 0o700


def test_whatever_differs_in_what_was_compiled_makes_another_image(directory: Path) -> None:
    parts: list[object] = [b"ab", "ab", ["ab"], ["a", "b"], {"a": "b"}, 1, 1.5, None, True, []]
    keys = {recipe(part).key for part in parts}
    assert len(keys) == len(parts)
    # No part's end is another's beginning, and names count.
    assert Recipe("").add("x", b"ab").add("y", b"c").key != Recipe("").add("x", b"a").add("y", b"bc").key
    assert Recipe("").add("x", b"a").key != Recipe("").add("y", b"a").key
    # What people call it does not.
    assert Recipe("one").add("x", {"a": 1, "b": 2}).key == Recipe("other").add("x", {"b": 2, "a": 1}).key


def test_versions_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import vnet

    before = recipe().key
    monkeypatch.setattr(vnet, "__version__", "0.0.0")
    assert recipe().key != before


def damage_bit(data: bytearray) -> bytes:
    data[5000] ^= 16
    return data


UNFIT: dict[str, Callable[[bytearray], bytes]] = {
    "it is no image": lambda data: b"",
    "it is truncated": lambda data: data[:-1],
    "its section": damage_bit,
    "it has ABI version": lambda data: data[:16] + (99).to_bytes(4, sys.byteorder) + data[20:],
    "of a machine of the other byte order": lambda data: data[:8] + bytes(reversed(data[8:12])) + data[12:],
    "its format has version": lambda data: data[:12] + b"\xff" + data[13:],
    "its header is damaged": lambda data: data[:100] + b"\xff" + data[101:],
    "bytes in it where there should be": lambda data: data + b"\0",
}


@pytest.mark.parametrize("sentence", UNFIT, ids=str)
def test_what_is_unfit_is_compiled_anew_and_replaced(published: Path, sentence: str) -> None:
    data = UNFIT[sentence](bytearray(published.read_bytes()))
    published.unlink()
    published.write_bytes(data)
    published.chmod(0o600)
    came, compiled = obtain()
    with came:
        assert (compiled, came.trouble) == (1, "")
        assert sentence in came.unfit
        assert routes(came) == ROUTES
    again, compiled = obtain()
    with again:
        assert (compiled, again.unfit) == (0, "")


def test_an_image_under_the_name_of_another_is_unfit(directory: Path, published: Path) -> None:
    other = recipe("another")
    published.rename(directory / f"{other.key.hex()}.img")
    came, compiled = obtain(other)
    with came:
        assert compiled == 1
        assert "compiled from something else" in came.unfit


def test_a_symbolic_link_is_never_followed(directory: Path, published: Path, tmp_path: Path) -> None:
    # To a file that is an image and would be fit.
    elsewhere = tmp_path / "elsewhere.img"
    published.rename(elsewhere)
    published.symlink_to(elsewhere)
    came, compiled = obtain()
    with came:
        assert (compiled, came.unfit) == (1, "it is a symbolic link")
    assert not published.is_symlink()
    assert elsewhere.exists()
    # The place to build in as well: what it leads to is not touched.
    published.unlink()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (directory / f"{recipe().key.hex()}.building").symlink_to(precious)
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)
    assert "symbolic link" in came.trouble
    assert precious.read_text() == "mine"


def test_a_cache_directory_that_is_a_symbolic_link_is_not_used(directory: Path, tmp_path: Path) -> None:
    directory.parent.mkdir(parents=True)
    directory.symlink_to(tmp_path)
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)
    assert "symbolic link" in came.trouble
    assert names(tmp_path) == []


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_to_is_not_used(published: Path, mode: int) -> None:
    published.chmod(mode)
    came, compiled = obtain()
    with came:
        assert (compiled, came.unfit) == (1, "others may write to it")


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_write_to_is_not_used(directory: Path, mode: int) -> None:
    directory.mkdir(parents=True)
    directory.chmod(mode)
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)
    assert came.trouble == f"{directory} is not used, because others may write to it"
    assert names(directory) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run as root")
def test_what_belongs_to_somebody_else_is_not_used(directory: Path, published: Path) -> None:
    os.chown(published, NOBODY, NOBODY)
    came, compiled = obtain()
    with came:
        assert (compiled, came.unfit) == (1, f"it belongs to user {NOBODY}")
    os.chown(directory, NOBODY, NOBODY)
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)
    assert came.trouble == f"{directory} is not used, because it belongs to user {NOBODY}"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file_is_not_waited_for(directory: Path, make: Callable[[Path], None]) -> None:
    directory.mkdir(parents=True, mode=0o700)
    place = directory / f"{recipe().key.hex()}.building"
    make(place)
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)
    assert came.trouble.startswith(f"{directory} cannot be used: ")
    make(directory / f"{recipe().key.hex()}.img")
    came, compiled = obtain()
    assert (compiled, came.fd) == (1, -1)


def test_without_a_place_for_a_cache_it_is_compiled_and_said_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for value, sentence in (
        ("off", "VNET_CACHE is off"),
        ("some/where", "VNET_CACHE is 'some/where', which is neither an absolute path nor 'off'"),
        (str(blocked / "below"), "cannot be made: not a directory"),
    ):
        monkeypatch.setenv("VNET_CACHE", value)
        came, compiled = obtain()
        assert (compiled, came.built, came.fd) == (1, True, -1)
        assert sentence in came.trouble
    monkeypatch.setenv("VNET_CACHE", "off")
    with pytest.raises(CacheTrouble, match=r"^VNET_CACHE is off$"):
        listed(thorough=False)


def test_the_directory_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VNET_CACHE", str(tmp_path / "a"))
    assert cache_directory() == tmp_path / "a" / "images"
    monkeypatch.delenv("VNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_directory() == tmp_path / "b" / "vnet" / "images"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/to/be/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache_directory() == tmp_path / "c" / ".cache" / "vnet" / "images"


# A tmpfs of its own, in namespaces that it makes: of a size, or for reading only.
_IN_A_TMPFS = """
import ctypes, os, sys
options, then = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
def check(result):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
check(libc.unshare(0x10000000 | 0x00020000))  # CLONE_NEWUSER, CLONE_NEWNS
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
place = os.environ["VNET_CACHE"]
os.makedirs(place)
check(libc.mount(b"none", place.encode(), b"tmpfs", 0, options.encode()))
os.umask(0o022)
sys.path.insert(0, sys.argv[3])
from test_image_cache import obtain, recipe, routes, names
from vnet.images import cache_directory
if then == "ro":
    obtain()[0].close()
    check(libc.mount(None, place.encode(), None, 32 | 1, None))  # MS_REMOUNT, MS_RDONLY
    came, compiled = obtain()
    print(compiled, came.fd >= 0, came.trouble)
came, compiled = obtain(recipe("another"))
print(compiled, came.fd, came.trouble, len(names(cache_directory())))
"""


def in_a_tmpfs(options: str, then: str = "") -> list[str]:
    command = [sys.executable, "-c", _IN_A_TMPFS, options, then, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(support.ROOT / "tests")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_cache_is_no_error_and_keeps_no_half_image() -> None:
    directory = cache_directory()
    # Two pages fit, an image of five does not.
    said = in_a_tmpfs("size=8k,mode=700")
    assert said == [f"1 -1 the image cannot be written to {directory}: no space left on device 0"]


def test_a_cache_that_can_only_be_read_is_used_for_what_is_in_it() -> None:
    directory = cache_directory()
    found, missing = in_a_tmpfs("size=1m,mode=700", "ro")
    assert found == "0 True "
    assert missing == f"1 -1 {directory} cannot be used: read-only file system 1"


def test_an_error_of_the_compiler_publishes_nothing_and_the_next_can_build(directory: Path) -> None:
    def fails() -> Callable[[int], object]:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        Cache().obtain(recipe(), fails)
    assert names(directory) == []
    came, compiled = obtain()
    with came:
        assert compiled == 1


def test_who_needs_what_another_compiles_waits_for_it(directory: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    slow = Compiler(recipe())

    def compile_slowly() -> Callable[[int], object]:
        begun.set()
        assert go_on.wait(20)
        return slow()

    thread = threading.Thread(target=lambda: Cache().obtain(recipe(), compile_slowly).close())
    thread.start()
    assert begun.wait(20)
    threading.Timer(0.1, go_on.set).start()
    came, compiled = obtain()
    thread.join()
    with came:
        assert (compiled, slow.count, came.built, came.trouble) == (0, 1, False, "")
        assert routes(came) == ROUTES


def test_who_has_waited_long_enough_compiles_for_itself_and_publishes_nothing(directory: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compile_slowly() -> Callable[[int], object]:
        begun.set()
        assert go_on.wait(20)
        return Compiler(recipe())()

    thread = threading.Thread(target=lambda: Cache().obtain(recipe(), compile_slowly).close())
    thread.start()
    assert begun.wait(20)
    came, compiled = obtain(patience=0.05)
    assert (compiled, came.fd) == (1, -1)
    assert came.trouble == "another process has been compiling the same for 0.05 s and more"
    assert [each.state for each in listed(thorough=True)] == [State.BUILDING]
    # Nobody prunes what is being built.
    assert prune(everything=True) == []
    go_on.set()
    thread.join()
    assert [each.state for each in listed(thorough=True)] == [State.FIT]


def test_the_cache_keeps_within_its_size_by_what_was_used_last(directory: Path) -> None:
    size = _image_bytes()
    for number in range(3):
        obtain(recipe(number))[0].close()
    # The first one is used again, so the second one is now the one that was not used for longest.
    time.sleep(0.02)
    obtain(recipe(0))[0].close()
    obtain(recipe(3), most=3 * size)[0].close()
    kept = {each.key for each in listed(thorough=True)}
    assert kept == {recipe(number).key.hex() for number in (0, 2, 3)}


def _image_bytes() -> int:
    came, _ = obtain(recipe("size"))
    with came:
        pass
    prune(everything=True)
    return came.bytes


def test_pruning_removes_what_is_unfit_and_what_it_is_told(directory: Path, published: Path) -> None:
    for number in range(3):
        obtain(recipe(number))[0].close()
    unfit = directory / f"{recipe(0).key.hex()}.img"
    unfit.chmod(0o600)
    with unfit.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff")
    (directory / "of-somebody-else.txt").write_text("not ours")
    would = prune(dry=True)
    assert [(each.image.key, each.why) for each in would] == [(recipe(0).key.hex(), 'its section "routes" is damaged')]
    assert [each.image.key for each in prune()] == [recipe(0).key.hex()]
    assert prune() == []
    old = directory / f"{recipe(1).key.hex()}.img"
    os.utime(old, (time.time() - 1000, time.time() - 2000))
    assert [each.image.key for each in prune(older=900)] == [recipe(1).key.hex()]
    assert len(prune(most=published.stat().st_size)) == 1
    assert len(prune(everything=True)) == 1
    assert names(directory) == ["of-somebody-else.txt"]


def test_looking_at_images_is_not_using_them(published: Path) -> None:
    os.utime(published, (1_000_000_000, 1_000_000_000))
    for thorough in (False, True):
        (found,) = listed(thorough=thorough)
        assert found.used == 1_000_000_000
    obtain()[0].close()
    (found,) = listed(thorough=False)
    assert time.time() - found.used < 60
    assert found.made == 1_000_000_000


def test_a_section_is_written_whole_or_refused() -> None:
    fd = os.memfd_create("an image")
    try:
        for sections in ([("routes", b"123")], [("hosts", b"")], [("plan", b""), ("plan", b"")]):
            with pytest.raises(ValueError, match=r"whole words|is no section|is there twice"):
                _native.image_write(fd, bytes(32), "", sections)
        with pytest.raises(ImageError, match="it is no image"):
            _native.image_check(fd, None)
        _native.image_write(fd, bytes(32), "x" * 500, [("plan", b"1234"), ("routes", b"")])
        key, label, size, sections = _native.image_check(fd, bytes(32))
        assert (key, label, size) == (bytes(32), "x" * 160, os.fstat(fd).st_size)
        assert sections == [("plan", 4096, 1), ("routes", 8192, 0)]
    finally:
        os.close(fd)
