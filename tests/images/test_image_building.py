"""Many processes at once: one compiles and all find it, whoever is killed at whatever moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import support

from vnet.images import cache_directory
from vnet.images.keeping import State, listed, prune

# Obtains the image of a recipe and says what came of it; compiling takes some time, writing is of some megabytes.
_OBTAIN = """
import hashlib
from vnet import _native
from vnet.images import Cache, Recipe
name, pause, megabytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
recipe = Recipe(name).add("name", name)
words = hashlib.sha256(name.encode()).digest() * (megabytes * 32768)
compiled = []
def build():
    say("compiling")
    time.sleep(pause)
    compiled.append(1)
    return lambda fd: _native.image_write(fd, recipe.key, recipe.label, [("routes", words)])
with Cache(patience=60).obtain(recipe, build) as came:
    (_, at, count), = came.sections or [("", 0, 0)]
    right = came.fd >= 0 and os.pread(came.fd, 4 * count, at) == words
say("done", len(compiled), came.built, right, came.trouble)
"""

Start = Callable[..., support.Guest]


def heard(guest: support.Guest) -> list[str]:
    """What a process said last."""
    while True:
        words = guest.hear().split()
        if words[0] == "done":
            return words[1:]


def test_of_processes_that_need_the_same_at_once_one_compiles_and_all_have_it(guest: Start) -> None:
    guests = [guest(_OBTAIN, "same", "0.3", "1") for _ in range(6)]
    said = [heard(each) for each in guests]
    assert sorted(said) == [["0", "False", "True"]] * 5 + [["1", "True", "True"]]
    (image,) = listed(thorough=True)
    assert image.state is State.FIT


def test_processes_that_need_different_things_do_not_wait_for_one_another(guest: Start) -> None:
    slow = guest(_OBTAIN, "slow", "30", "1")
    assert slow.hear() == "compiling"
    assert heard(guest(_OBTAIN, "quick", "0", "1")) == ["1", "True", "True"]


def test_when_who_compiles_is_killed_one_of_those_who_wait_goes_on(guest: Start) -> None:
    slow = guest(_OBTAIN, "shared", "30", "1")
    assert slow.hear() == "compiling"
    others = [guest(_OBTAIN, "shared", "0.1", "1") for _ in range(2)]
    time.sleep(0.2)
    slow.kill()
    assert sorted(heard(each) for each in others) == [["0", "False", "True"], ["1", "True", "True"]]


# A builder that says when it begins, for a parent that kills it some time later.
_KILLED = """
import hashlib, os, sys
from vnet import _native
from vnet.images import Cache, Recipe
while True:
    number = sys.stdin.readline().strip()
    if not number:
        break
    child = os.fork()
    if child == 0:
        recipe = Recipe("killed").add("number", number)
        words = hashlib.sha256(number.encode()).digest() * 131072
        print(os.getpid(), flush=True)
        Cache().obtain(recipe, lambda: lambda fd: _native.image_write(fd, recipe.key, "", [("plan", words)])).close()
        os._exit(0)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_builder_that_is_killed_at_any_moment_leaves_a_fit_image_or_none() -> None:
    directory = cache_directory()
    assert directory is not None
    chance = random.Random(8_255_922)
    kills = support.examples(60)
    parent = subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert parent.stdin
    assert parent.stdout
    outcomes: dict[str, int] = {}
    with parent:
        for number in range(kills):
            # Each recipe is tried several times: what a killed builder left is in the way of the next.
            print(number // 3, file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            # To write and publish 4 MiB takes some 5 ms.
            time.sleep(chance.uniform(0, 0.012))
            # Nobody has waited for it yet, so the number is still its own.
            os.kill(child, signal.SIGKILL)
            print("reap", file=parent.stdin, flush=True)
            parent.stdout.readline()
            for each in listed(thorough=True):
                assert each.state in (State.FIT, State.LEFT), each
                outcomes[each.state.value] = outcomes.get(each.state.value, 0) + 1
        parent.stdin.close()
    # Both happened, so the kills came before the end and after it; and nothing else is there.
    assert set(outcomes) == {"fit", "left"}
    left = [each for each in listed(thorough=True) if each.state is State.LEFT]
    assert [each.image for each in prune()] == left
    assert all(name.endswith(".img") for name in os.listdir(directory))


def test_a_lan_keeps_what_it_has_mapped_when_the_image_is_removed_or_replaced(guest: Start, tmp_path: Path) -> None:
    reader = guest(
        """
import mmap
from vnet import _native
from vnet.images import Cache, Recipe
recipe = Recipe("kept").add("x", 1)
words = bytes(range(256)) * 4096
build = lambda: lambda fd: _native.image_write(fd, recipe.key, "", [("plan", words)])
with Cache().obtain(recipe, build) as came:
    mapped = mmap.mmap(came.fd, 0, prot=mmap.PROT_READ)
    (_, at, count), = came.sections
say("mapped")
hear()
say(mapped[at : at + 4 * count] == words)
"""
    )
    assert reader.hear() == "mapped"
    assert len(prune(everything=True)) == 1
    reader.say()
    assert reader.hear() == "True"
