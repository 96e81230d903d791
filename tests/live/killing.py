"""Labs are killed, at every line of their code and at random moments, and nothing may be left a second later.

``python -m tests.live.killing --kills 300`` is the long form.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[2]))

from .kernels import missing
from .users import User, at_a_shell, children, eventually

# Hosts, and two commands: one starts a child that would outlive it, the other may be deaf to being asked to end.
LAB = """\
name: doomed
networks: {desk: 10.1.0.0/24, lab: 10.2.0.0/24}
defaults: {nodes: {networks: [desk]}}
nodes:
  h: {count: 3}
  parent: {kind: process, exec: "sleep 1000 & exec python3 guest.py"}
  slow: {kind: process, networks: [lab], exec: "%s python3 guest.py", ready: {output: here}}
%s
steps:
  - ping: {from: h-1, to: h-2}
  - exec: {command: sleep 0.05}
"""
# Where this machine lets it: a namespace, with a command that starts another.
NAMESPACE = "  space: {kind: netns, networks: [lab], exec: [{command: sleep 1000 & exec sleep 1000}, [sleep, '1000']]}"
DEAF = "trap '' TERM;"
GUEST = "import time, vnet\nnic = vnet.attach()\nprint('here', flush=True)\ntime.sleep(1000)\n"

# What must be gone a second after the kill; the rest of it is what a loaded machine takes to let it go.
PATIENCE = float(os.environ.get("VNET_KILL_PATIENCE", "1.0"))


class Left(AssertionError):
    """Something was left."""


@dataclass
class Tally:
    """What was done: kills by what was killed and how, how often the lab was up all the same, and what was left."""

    kills: dict[str, int] = field(default_factory=dict)
    survived: int = 0

    def note(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1


class Killer:
    """Kills the commands of one user."""

    def __init__(self, user: User, chance: random.Random) -> None:
        self.user = user
        self.chance = chance
        self.tally = Tally()
        user.write("guest.py", GUEST)
        self._write()

    def _write(self, trap: str = "") -> None:
        self.user.write("doomed.yaml", LAB % (trap, NAMESPACE if missing() is None else ""))

    def _bring_up(self) -> None:
        """As the way down wants it: with a command that takes all the time that it is given."""
        self._write(DEAF)
        self.user.does("up", "doomed.yaml")
        self._write()

    # At lines

    def lines(self, who: str, verb: str) -> int:
        """How many lines there are to be killed at."""
        if verb == "down":
            self._bring_up()
        tally = self.user.directory / "tally"
        process = self._mortal(who, 0, verb)
        process.communicate(timeout=60)
        if verb == "up":
            self.user.does("down", "doomed")
        return int(tally.read_text())

    def at_line(self, who: str, line: int, verb: str) -> None:
        """Kill ``who`` at that line of ``vnet VERB``."""
        if verb == "down":
            self._bring_up()
        process = self._mortal(who, line, verb)
        said, _ = process.communicate(timeout=60)
        self._check(f"{who} of {verb} at line {line}", said, may_be_up=verb in ("up", "down"))

    def _mortal(self, who: str, line: int, verb: str) -> subprocess.Popen[str]:
        tally = self.user.directory / "tally"
        what = "doomed" if verb == "down" else "doomed.yaml"
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mortal.py")), who, str(line), str(tally), verb, what],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.user.directory,
            env=self.user.environment,
        )

    # At moments

    def at_a_moment(self, what: str) -> None:
        """Kill the client of ``up``, its base, a ``run``, the client of ``down`` or its base, whenever."""
        getattr(self, f"_kill_{what}")()

    def _kill_client(self) -> None:
        client = self.user.starts("up", "doomed.yaml")
        if eventually(lambda: children(client.pid) or client.poll() is not None):
            time.sleep(self.chance.uniform(0, 0.25))
        client.kill()
        said, _ = client.communicate()
        self._check("client of up", said, may_be_up=True)

    def _kill_base(self) -> None:
        client = self.user.starts("up", "doomed.yaml")
        eventually(lambda: children(client.pid) or client.poll() is not None)
        base = children(client.pid)
        time.sleep(self.chance.uniform(0, 0.25))
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(base[0], signal.SIGKILL)
        _, error = client.communicate(timeout=60)
        if client.returncode and "was ended by SIGKILL" not in error:
            raise Left(f"the client says {error!r} of a base that was killed")
        self._check("base of up", "")

    def _kill_run(self) -> None:
        run = self.user.starts("run", "doomed.yaml")
        eventually(lambda: (self.user.runtime / "vnet").exists())
        time.sleep(self.chance.uniform(0, 0.4))
        run.kill()
        run.communicate()
        self._check("run", "")

    def _kill_down(self) -> None:
        self._bring_up()
        client = self.user.starts("down", "doomed")
        time.sleep(self.chance.uniform(0, 0.5))
        client.kill()
        client.communicate()
        self._check("client of down", "", may_be_up=True)

    def _kill_base_of_down(self) -> None:
        self._bring_up()
        base = self._base()
        client = self.user.starts("down", "doomed")
        time.sleep(self.chance.uniform(0, 0.5))
        with contextlib.suppress(ProcessLookupError):
            os.kill(base, signal.SIGKILL)
        client.communicate(timeout=60)
        self._check("base of down", "")

    # Afterwards

    def _check(self, what: str, said: str, *, may_be_up: bool = False) -> None:
        """Nothing is left; or the lab is up, as somebody has been told, or as nobody has asked for its end."""
        self.tally.note(what.split(" at ")[0])
        if self.user.nothing_is_left(PATIENCE):
            return
        if may_be_up and ("down" in what or "is up" in said) and self._is_up():
            self.tally.survived += 1
            os.kill(self._base(), signal.SIGKILL)
            if not self.user.nothing_is_left(PATIENCE):
                raise Left(f"{what}, then its base: {self.user.left()}")
            return
        raise Left(f"{what}: {self.user.left()}")

    def _base(self) -> int:
        (lan,) = json.loads(self.user.does("ls", "--json"))["lans"]
        return int(lan["pid"])

    def _is_up(self) -> bool:
        return self.user.types("ping", "doomed", "h-1", "h-2", "-c", "1").returncode == 0

    def comes_up_again(self) -> None:
        """After all that, the lab comes up and goes as ever."""
        self.user.does("up", "doomed.yaml")
        self.user.does("down", "doomed")
        if left := self.user.left():
            raise Left(f"after up and down: {left}")


MOMENTS = ("client", "base", "run", "down", "base_of_down")
LINES = (("client", "up"), ("base", "up"), ("client", "run"), ("client", "down"))


def spread(total: int, count: int, chance: random.Random) -> list[int]:
    """So many numbers up to ``total``, one of each equal part."""
    count = min(count, total)
    return [int(total * (part + chance.random()) / count) + 1 for part in range(count)]


def kill(user: User, kills: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Tally:
    """Kill so many times, half at lines and half at moments.

    Raises:
        Left: something was left, or the lab did not come up again.
    """
    killer = Killer(user, random.Random(seed))
    for who, verb in LINES:
        total = killer.lines(who, verb)
        for line in spread(total, kills // 2 // len(LINES), killer.chance):
            killer.at_line(who, line, verb)
        killer.comes_up_again()
        say(f"{who} of {verb}: {total} lines")
    for number in range(kills - kills // 2):
        killer.at_a_moment(MOMENTS[number % len(MOMENTS)])
    killer.comes_up_again()
    return killer.tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.live.killing", description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how often to kill (300)")
    parser.add_argument("--seed", type=int, default=1, help="what the random choices follow from (1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vn") as place:
        runtime = Path(place, "run")
        runtime.mkdir(mode=0o700)
        with at_a_shell(Path(place), runtime) as user:
            try:
                tally = kill(user, options.kills, options.seed, print)
            except Left as left:
                print(left, file=sys.stderr)
                return 1
    for what, count in sorted(tally.kills.items()):
        print(f"{count:5} kills: {what}")
    print(f"nothing was left a second later; {tally.survived} times the lab was up all the same, as it had been said")
    return 0


if __name__ == "__main__":
    sys.exit(main())
