"""The command: ``python -m bench.stacks``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import vnet

from . import startup
from .cases import CASES, Case, Effort, Result, cases_of, measure_case
from .measure import Ends, congestion, prepare
from .peers import LARGEST_MTU, LOOP, Peer, missing, peers_with
from .report import as_json, print_table
from .spaces import Trouble

# Set inside: the scratch directory. Whoever sees it is in the benchmark's own namespaces.
_SCRATCH = "VNET_BENCH_SCRATCH"
_QUICK = Effort(rounds=2, seconds=1, echoes=4_000, sizes=(1400,), nodes=(16,), mtus=(1500,))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    full = Effort()
    parser = argparse.ArgumentParser(
        prog="python -m bench.stacks",
        description="Linux stacks on vnet beside other ways of joining them.",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"what to measure; everything of: {', '.join(CASES)}")
    peers = [*(peer.name for peer in peers_with()), *(way for way in startup.WAYS if way != "vnet")]
    parser.add_argument("--peers", metavar="A,B", help=f"beside whom; everybody of: {', '.join(peers)}")
    parser.add_argument(
        "--rounds", type=_whole(1, 1000), metavar="N", help=f"how often each is measured ({full.rounds})"
    )
    parser.add_argument("--seconds", type=_whole(1, 3600), metavar="S", help=f"of a stream ({full.seconds})")
    parser.add_argument(
        "--echoes", type=_whole(20, 10_000_000), metavar="N", help=f"of a figure of ping ({full.echoes})"
    )
    parser.add_argument("--sizes", type=_several(16, 65_507), metavar="N,N", help="bytes of UDP payload (64,1400)")
    parser.add_argument(
        "--mtus",
        type=_several(576, LARGEST_MTU),
        metavar="N,N",
        help=f"bytes of IP, of the TCP cases (1500,{LARGEST_MTU})",
    )
    parser.add_argument(
        "--nodes", type=_several(2, 1000), metavar="N,N", help="of the networks that start (16,64,100,256)"
    )
    parser.add_argument("--loop", type=Path, default=LOOP, metavar="PATH", help="the program of the bare loop")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: figures to look at")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(words)
    for name in options.cases:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; there are {', '.join(CASES)}")
    options.cases = options.cases or list(CASES)
    options.peers = options.peers.split(",") if options.peers else peers
    for name in options.peers:
        if name not in peers:
            parser.error(f"there is no peer {name!r}; there are {', '.join(peers)}")
    return options


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(word: str) -> int:
        # argparse tells of a ValueError in its own words, which name this function.
        if not word.isdecimal() or not least <= int(word) <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most} is wanted, not {word!r}")
        return int(word)

    return number


def _several(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    number = _whole(least, most)
    return lambda words: tuple(map(number, words.split(",")))


def _effort(options: argparse.Namespace) -> Effort:
    base = _QUICK if options.quick else Effort()
    names = ("rounds", "seconds", "echoes", "sizes", "nodes", "mtus")
    given = {name: getattr(options, name) for name in names}
    return Effort(**{name: getattr(base, name) if value is None else value for name, value in given.items()})


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints.  Returns the exit code: 0, 2 for wrong options, 3 where the machine lacks what is needed."""
    options = _options(words)
    if _SCRATCH not in os.environ:
        return _go_inside(sys.argv[1:] if words is None else words)
    left_out: list[str] = []

    def leave_out(sentence: str) -> None:
        left_out.append(sentence)

    peers = peers_with(options.loop)
    missed = {name: _missing(name, peers) for name in options.peers}
    left_out += [sentence for sentence in missed.values() if sentence]
    present = [name for name in options.peers if not missed[name]]
    effort = _effort(options)
    results = []
    for group in _by_mtu(cases_of(options.cases, effort)):
        results += _measure(group, [peer for peer in peers if peer.name in present], present, effort, leave_out)
    _say("")
    measured = any(result.figures for result in results)
    if options.json or not measured:
        for sentence in left_out:
            print(f"bench.stacks: {sentence}", file=sys.stderr)
    if not measured:
        print("bench.stacks: nothing was measured", file=sys.stderr)
        return 3
    machine = {
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "congestion_control": congestion(),
        "rounds": effort.rounds,
        "load": os.getloadavg()[0],
    }
    if options.json:
        print(json.dumps(as_json(results, left_out, machine), indent=2))
    else:
        print_table(results, left_out, machine, None if sys.stdout.isatty() else 150)
    return 0


def _missing(name: str, peers: Sequence[Peer]) -> str | None:
    return startup.missing(name) or next((missing(peer) for peer in peers if peer.name == name), None)


def _by_mtu(cases: Sequence[Case]) -> list[list[Case]]:
    """Those that can be measured between the same ends."""
    groups: dict[int, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.mtu, []).append(case)
    return list(groups.values())


def _measure(
    cases: Sequence[Case],
    peers: Sequence[Peer],
    present: Sequence[str],
    effort: Effort,
    leave_out: Callable[[str], None],
) -> list[Result]:
    """Joins the peers of these cases, and measures one case after the other."""
    mtu = cases[0].mtu
    scratch = Path(os.environ[_SCRATCH])
    wanted = {peer for case in cases for peer in case.peers if peer in present}
    with contextlib.ExitStack() as stack:
        ends: dict[str, Ends | None] = {}
        for peer in peers:
            if mtu == 0 or peer.name not in wanted:
                continue
            _say(f"joining namespaces: {peer.name}")
            try:
                joined = stack.enter_context(peer.open(mtu, scratch))
                prepare(joined)
            except (Trouble, OSError, vnet.VnetError) as error:
                leave_out(f"{peer.name} is left out: {error}")
            else:
                ends[peer.name] = joined
        if mtu == 0:
            ends = dict.fromkeys(wanted)
        results = []
        for case in cases:
            failed = lambda peer, why: leave_out(f"{peer} is left out of {case.name}: {why}")  # noqa: B023, E731
            results.append(measure_case(case, ends, effort.rounds, _say, failed))
    return results


def _say(what: str) -> None:
    """Progress, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _go_inside(words: Sequence[str]) -> int:
    """Runs the benchmark in network, mount and process namespaces of its own; the kernel ends it all when it ends.

    Without root they are made in a user namespace.
    """
    for program, package in (("unshare", "util-linux"), ("setpriv", "util-linux"), ("taskset", "util-linux"),
                             ("iperf3", "iperf3"), ("ping", "iputils-ping"), ("ip", "iproute2")):  # fmt: skip
        if shutil.which(program) is None:
            print(f"bench.stacks: {program} is not installed; apt-get install {package} provides it", file=sys.stderr)
            return 3
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="vnet-bench-") as scratch:
        env = {**os.environ, _SCRATCH: scratch, "XDG_RUNTIME_DIR": scratch}
        command = ["setpriv", "--pdeathsig", "KILL", *unshare, sys.executable, "-m", "bench.stacks", *words]

        def stop(number: int, frame: object) -> NoReturn:
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, stop)
        inside = subprocess.Popen(command, cwd=root, env=env, start_new_session=True)
        try:
            return inside.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            # What unshare has forked dies with it, and with that every process of its namespace.
            inside.kill()
            inside.wait()


if __name__ == "__main__":
    sys.exit(main())
