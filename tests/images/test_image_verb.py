"""``vnet image``: what people see of the cache, and its exit codes."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vnet import _native
from vnet.cli.completing import candidates
from vnet.images import Cache, Recipe, cache_directory


def vnet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vnet", "image", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def plain(*arguments: str) -> Any:
    done = vnet(*arguments, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found.pop("format") == 1
    return found


def publish(label: str, words: bytes = bytes(8000)) -> Path:
    recipe = Recipe(label).add("label", label)
    with Cache().obtain(
        recipe, lambda: lambda fd: _native.image_write(fd, recipe.key, recipe.label, [("routes", words)])
    ) as came:
        assert came.fd >= 0
    directory = cache_directory()
    assert directory is not None
    return directory / f"{recipe.key.hex()}.img"


def damage(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff")


def test_an_empty_cache_is_no_error() -> None:
    for verb, said in (
        (["ls"], f"there are no images in {cache_directory()}\n"),
        (["verify"], f"there are no images in {cache_directory()}\n"),
        (["prune"], "nothing was to be removed\n"),
    ):
        done = vnet(*verb)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", said)


def test_images_are_listed_that_which_was_used_last_first() -> None:
    first, second = publish("first"), publish("second")
    os.utime(first, (time.time() + 10, first.stat().st_mtime))
    heading, *rows = vnet("ls").stdout.splitlines()
    assert heading.split() == ["image", "state", "size", "made", "used", "of"]
    assert [row.split()[0] for row in rows] == [first.name[:12], second.name[:12]]
    assert [row.split()[-1] for row in rows] == ["first", "second"]
    listed = plain("ls")
    assert listed["directory"] == str(cache_directory())
    assert [(each["key"], each["label"], each["state"], each["unfit"]) for each in listed["images"]] == [
        (first.stem, "first", "fit", None),
        (second.stem, "second", "fit", None),
    ]
    assert [each["sections"] for each in listed["images"]] == [{"routes": 8000}] * 2
    assert [each["file"] for each in listed["images"]] == [str(first), str(second)]


def test_an_image_is_shown_by_the_first_digits_of_its_key_with_who_has_it_mapped() -> None:
    path = publish("a table of routes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        done = vnet("show", path.name[:6].upper())
        assert (done.returncode, done.stderr) == (0, "")
        told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith("mapped by"))
        assert told["of"] == "a table of routes"
        assert (told["state"], told["key"], told["file"]) == ("fit", path.stem, str(path))
        assert told["sections"] == "routes 7.81 KiB"
        assert f"mapped by  process {os.getpid()}" in done.stdout
        assert plain("show", path.stem)["mapped_by"] == [os.getpid()]
    assert plain("show", path.stem)["mapped_by"] == []


def test_damage_is_found_and_named_and_its_exit_code_is_1() -> None:
    good, bad = publish("good"), publish("bad")
    assert vnet("verify").returncode == 0
    damage(bad)
    done = vnet("verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert sorted(done.stdout.splitlines()) == sorted(
        [f"{good.name[:12]}  fit", f'{bad.name[:12]}  its section "routes" is damaged']
    )
    assert vnet("verify", good.name[:12]).returncode == 0
    verified = json.loads(vnet("verify", "--json").stdout)
    assert verified["unfit"] == 1
    # The list looks at headers only; what is shown is checked.
    assert {each["state"] for each in plain("ls")["images"]} == {"fit"}
    assert 'state      unfit: its section "routes" is damaged' in vnet("show", bad.stem).stdout


def test_pruning_tells_what_went_and_why() -> None:
    good, bad = publish("good"), publish("bad")
    damage(bad)
    dry = vnet("prune", "--dry-run")
    assert dry.stdout == f'{bad.name[:12]}  its section "routes" is damaged\n'
    assert dry.stderr == "1 image, 12 KiB would be removed\n"
    assert bad.exists()
    pruned = plain("prune")
    assert [(each["key"], each["why"]) for each in pruned["removed"]] == [(bad.stem, 'its section "routes" is damaged')]
    assert (pruned["freed"], pruned["dry_run"]) == (3 * 4096, False)
    assert not bad.exists()
    os.utime(good, (time.time() - 90_000, time.time() - 90_000))
    assert plain("prune", "--older-than", "2d")["removed"] == []
    assert plain("prune", "--older-than", "25h", "--dry-run")["freed"] == 3 * 4096
    assert plain("prune", "--max-size", "12KiB")["removed"] == []
    assert len(plain("prune", "--max-size", "1KiB")["removed"]) == 1
    publish("more")
    assert len(plain("prune", "--all")["removed"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune", "--older-than", "long"], "--older-than is a time such as 30d or 12h, not 'long'"),
        (["prune", "--older-than", "-1s"], "--older-than is a time such as 30d or 12h, not '-1s'"),
        (["prune", "--max-size", "much"], "--max-size is a size such as 100MiB, not 'much'"),
        (["show", "beef"], "no image begins with 'beef'; vnet image ls lists them"),
        (["show", ""], "no image begins with ''"),
        (["verify", "beef"], "no image begins with 'beef'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(arguments: list[str], said: str) -> None:
    publish("one")
    done = vnet(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_digits_that_several_images_begin_with_are_not_enough() -> None:
    paths = [publish(str(number)) for number in range(17)]
    digits = [path.name[0] for path in paths]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    done = vnet("show", shared)
    assert done.returncode == 2
    assert f"images begin with {shared!r}: give more digits" in done.stderr


def test_a_cache_that_cannot_be_used_is_one_sentence() -> None:
    for verb in ("ls", "verify", "prune"):
        done = vnet(verb, VNET_CACHE="off")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "vnet: VNET_CACHE is off\n"


def test_a_shell_completes_the_verbs_and_the_keys() -> None:
    path = publish("a table")
    assert [word for word, _ in candidates(["image", ""])] == ["ls", "show", "verify", "prune"]
    assert list(candidates(["image", "show", path.name[:3]])) == [(path.name[:12], "a table")]
    assert [word for word, _ in candidates(["image", "prune", "--"])] == [
        "--older-than", "--max-size", "--all", "--dry-run", "--json", "--help",
    ]  # fmt: skip


def test_doctor_tells_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vnet.doctor.finding import State
    from vnet.doctor.images import finding

    found = finding("topic")
    assert (found.state, found.found) == (State.OK, f"{cache_directory()} can be made")
    damage(publish("one"))
    publish("two")
    assert finding("topic").found == f"2 images, 0.0 MiB, in {cache_directory()}"
    directory = cache_directory()
    assert directory is not None
    directory.chmod(0o777)
    limited = finding("topic")
    assert (limited.state, limited.remedy) == (State.LIMITED, f"chmod u+rwx,go-w {directory}")
    assert "others may write to it" in limited.found
    monkeypatch.setenv("VNET_CACHE", "off")
    assert (finding("topic").state, finding("topic").remedy) == (State.LIMITED, "unset VNET_CACHE")
