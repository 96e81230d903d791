"""`vnet top`, driven by textual's pilot, and as people have it, in a terminal multiplexer."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support import Guest, datagram, eventually
from textual.pilot import Pilot
from textual.widgets import Input, Static
from viewing import vnet_command

import vnet
from vnet.top.app import TopApp
from vnet.top.layout import FIELDS, NicLine, fit, heading, sparkline
from vnet.top.table import NicTable

NOBODY = datagram("10.0.0.1", "10.0.0.99", b"first")


def text_of(app: TopApp, widget: str) -> str:
    """What a line of text shows."""
    return str(app.query_one(widget, Static).render())


def lines_of(app: TopApp) -> list[str]:
    """The lines of NICs that are in sight."""
    table = app.query_one(NicTable)
    found = [table.render_line(y).text.rstrip() for y in range(table.size.height)]
    return [line for line in found if line]


async def until(condition: Callable[[], object], pilot: Pilot[None]) -> None:
    """Waits for what the application will show."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.01)
        await pilot.pause()
    raise AssertionError(f"it does not come true; the head is {text_of(pilot.app, '#head')!r}")  # type: ignore[arg-type]


def drive(
    story: Callable[[TopApp, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (80, 24),
    sort: str = "traffic",
    every: float = 0.05,
) -> None:
    """Runs the application over the LAN called office, and a story with it."""

    async def run() -> None:
        app = TopApp("office", every, sort)
        async with app.run_test(size=size) as pilot:
            await until(lambda: app.chosen() and app.chosen()[0].row.rates is not None, pilot)
            await story(app, pilot)

    asyncio.run(run())


def test_nics_stand_in_lines_with_their_rates_and_drops(named: vnet.Lan) -> None:
    a, b = named.attach("alice"), named.attach("bob")
    named.reserve("kept")

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        def send() -> bool:
            a.send_many([datagram("10.0.0.1", "10.0.0.2", b"x" * 400)] * 100 + [NOBODY] * 50)
            b.recv_many(timeout=1)
            return "no_host" in "".join(lines_of(app))

        await until(send, pilot)
        await until(lambda: "10.0.0.99" in text_of(app, "#drops"), pilot)
        assert [line.split()[:2] for line in lines_of(app)] == [["alice", "up"], ["bob", "up"], ["kept", "down"]]
        assert re.match(
            r"office  \d\d:\d\d:\d\d  3 NICs  \S+/s, \S+bit/s  drops \S+/s  by traffic", text_of(app, "#head")
        )
        assert text_of(app, "#titles").split()[:2] == ["NIC", "state"]
        assert re.search(r"alice +no_host", text_of(app, "#drops"))

    drive(story)


def test_keys_sort_filter_hold_and_hide(named: vnet.Lan) -> None:
    nics = [named.attach(name) for name in ("alice", "bob", "carol")]

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        def order() -> list[str]:
            return [line.split()[0] for line in lines_of(app)]

        await until(lambda: nics[2].send(NOBODY) and order()[0] == "carol", pilot)
        for key in ("tx", "rx", "drops", "name"):
            await pilot.press("s")
            assert text_of(app, "#head").endswith(f"by {key}")
        assert order() == ["alice", "bob", "carol"]
        await pilot.press("slash", *"BOB")
        assert order() == ["bob"]
        assert "1 of 3 NICs" in text_of(app, "#head")
        # While the filter is typed, q is a letter.
        await pilot.press("q")
        assert order() == []
        await pilot.press("escape")
        assert order() == ["alice", "bob", "carol"]
        assert not app.query_one("#filter", Input).has_class("open")
        await pilot.press("slash", *"10.0.0.3", "enter", "p")
        assert order() == ["carol"]
        assert "PAUSED" in text_of(app, "#head")
        held = lines_of(app)
        nics[2].send_many([NOBODY] * 5000)
        await asyncio.sleep(0.2)
        assert lines_of(app) == held
        await pilot.press("p", "d")
        assert not app.query_one("#drops-pane").display
        await pilot.press("d")
        assert app.query_one("#drops-pane").display

    drive(story)


def test_the_end_of_the_lan_is_told_and_the_view_stays_until_q(named: vnet.Lan) -> None:
    _alice = named.attach("alice")

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await asyncio.to_thread(named.close)
        await until(lambda: app.ended, pilot)
        assert text_of(app, "#head").startswith("office has ended; this is how it was at ")
        assert lines_of(app)[0].startswith("alice")
        assert app.is_running
        await pilot.press("q")
        assert app.return_code == 0

    drive(story)


FLOOD = """
nic = vnet.attach("office", "flood", "10.0.0.1")
batch = [datagram("10.0.0.1", "10.0.0.99")] * 256
say("floods")
while True:
    nic.send_many(batch)
"""


def test_however_much_is_dropped_keys_are_answered_and_no_thread_is_left(
    named: vnet.Lan, guest: Callable[..., Guest]
) -> None:
    guest(FLOOD).hear()

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await until(lambda: "they come too fast" in text_of(app, "#drops-title"), pilot)
        # What is shown is new: within two seconds, not what waited in a queue.
        await until(lambda: time.time_ns() - app._drops.last[-1].time < 2e9, pilot)
        await pilot.press("s")
        assert text_of(app, "#head").endswith("by tx")
        await pilot.press("q")

    drive(story)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vnet-top")]


def test_a_thousand_nics_scroll() -> None:
    with vnet.Lan("office", "10.0.0.0/16") as lan:
        _hosts = [lan.host(f"host-{number}") for number in range(1000)]

        async def story(app: TopApp, pilot: Pilot[None]) -> None:
            assert lines_of(app)[0].startswith("host-0 ")
            await pilot.press("end")
            await until(lambda: lines_of(app)[-1].startswith("host-999"), pilot)
            await pilot.press("pageup")
            await until(lambda: not lines_of(app)[-1].startswith("host-999"), pilot)

        drive(story, sort="name", every=0.2)


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (30, 8), (10, 3), (1, 1)])
def test_every_size_of_terminal_will_do(named: vnet.Lan, size: tuple[int, int]) -> None:
    _nics = [named.attach(name) for name in ("alice", "a-name-that-is-longer-than-its-column-is-wide")]

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        assert all(len(line) <= size[0] for line in lines_of(app))
        assert app.query_one("#drops-pane").display is (size[1] >= 12)
        await pilot.resize_terminal(size[0] + 20, size[1] + 5)
        await until(lambda: any(line.startswith("alice") for line in lines_of(app)), pilot)

    drive(story, size=size)


def test_columns_never_take_more_than_there_is() -> None:
    for width in range(1, 160):
        for networks in (1, 2):
            columns = fit(width, networks)
            assert len(heading(columns)) <= max(width, FIELDS[0].width)
            assert columns[0][0].title == "NIC"
        if width >= 80:
            assert [each.title for each, _ in fit(width, 1)] == [
                each.title for each in FIELDS if each.title != "network"
            ]


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], "    "), ([0.0, 0.0], "  ▁▁"), ([1.0, 8.0], "  ▁█"), ([0.001, 0.0, 4.0, 8.0], "▁▁▄█"), ([9.0] * 9, "████")],
)
def test_bars_are_as_high_as_their_values(values: list[float], bars: str) -> None:
    assert sparkline(values, 4) == bars


def test_a_line_without_rates_is_empty_where_they_will_be(named: vnet.Lan) -> None:
    from vnet.sample import take
    from vnet.top.layout import cells
    from vnet.view import Row

    _a = named.attach("a")
    shown = NicLine(Row(take(named).nics[0]))
    assert "".join(text for text, _ in cells(fit(80, 1), shown)).split() == ["a", "up"]


def test_without_a_terminal_it_points_to_stats(named: vnet.Lan) -> None:
    code, output, errors = vnet_command("top", "office")
    assert (code, output) == (2, "")
    assert errors == "vnet: vnet top needs a terminal; without one, `vnet stats office --watch` prints rates\n"
    code, _, errors = vnet_command("top", "offcie")
    assert (code, "did you mean 'office'?" in errors) == (2, True)
    code, _, errors = vnet_command("top", "office", "--sort", "x")
    assert (code, "--sort takes traffic, tx, rx, drops, name, not 'x'" in errors) == (2, True)


@pytest.fixture
def tmux() -> Iterator[Callable[..., str]]:
    """A tmux server of its own: calls it, and ends it with the test."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing: apt-get install tmux")
    name = f"vnet-{os.getpid()}"

    def call(*arguments: str) -> str:
        done = subprocess.run(["tmux", "-L", name, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    yield call
    subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, check=False)


@pytest.mark.parametrize("environment", ["", "NO_COLOR=1 "], ids=["colour", "plain"])
def test_it_lives_in_a_terminal_of_80_by_24_and_gives_it_back(
    named: vnet.Lan, tmux: Callable[..., str], environment: str
) -> None:
    a, _b = named.attach("alice"), named.attach("bob")
    command = f"{environment}{sys.executable} -m vnet top office --interval 100ms; echo the code is $?; cat"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)

    def screen() -> str:
        a.send(NOBODY)
        return tmux("capture-pane", "-p")

    assert eventually(lambda: re.search(r"alice +up.* no_host", screen()), timeout=20), screen()
    assert eventually(lambda: "10.0.0.99" in screen(), timeout=20), screen()
    shown = screen()
    assert "last drops" in shown
    assert "q Quit" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) == 24
    # 24-bit colours, or those of the palette whose last 24 are greys.
    painted = re.findall(r"[34]8;(?:2;(\d+);(\d+);(\d+)|5;(\d+))", tmux("capture-pane", "-p", "-e"))
    colours = [each for each in painted if len(set(each[:3])) > 1 or (each[3] and not 232 <= int(each[3]) <= 255)]
    assert painted
    assert bool(colours) is (not environment)
    tmux("send-keys", "q")
    # The screen is as before, and the shell goes on.
    assert eventually(lambda: "the code is 0" in screen(), timeout=10), screen()
    assert "last drops" not in screen()


@pytest.mark.parametrize(("way", "code"), [("C-c", 130), ("TERM", 143)])
def test_ctrl_c_and_sigterm_give_the_terminal_back(
    named: vnet.Lan, tmux: Callable[..., str], way: str, code: int
) -> None:
    _alice = named.attach("alice")
    command = f"echo before; {sys.executable} -m vnet top office --interval 100ms; echo the code is $?; cat"
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)
    assert eventually(lambda: "alice" in tmux("capture-pane", "-p"), timeout=20)
    if way == "C-c":
        tmux("send-keys", way)
    else:
        shell = int(tmux("display-message", "-p", "#{pane_pid}"))
        (top,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        os.kill(int(top), signal.SIGTERM)
    assert eventually(lambda: f"the code is {code}" in tmux("capture-pane", "-p"), timeout=10)
    assert tmux("capture-pane", "-p").split("\n")[0] == "before"


def test_what_threads_tell_while_the_view_goes_is_let_pass(named: vnet.Lan) -> None:
    _alice = named.attach("alice")

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await until(lambda: app._sample is not None, pilot)
        assert app._sample is not None
        await app.query("*").remove()
        app.on_top_app_arrived(TopApp.Arrived(app._sample, {}))
        app.on_top_app_ended()
        app._show_drops()

    drive(story)
