"""The application of ``vnet top``."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Footer, Input, Static

from vnet.drops import Drop
from vnet.packetline import summary
from vnet.sample import NicRates, Sample
from vnet.top.feed import Drops, Samples
from vnet.top.layout import SORTS, NicLine, fit, heading
from vnet.top.table import NicTable
from vnet.view import Row, natural, rate

__all__ = ["TopApp"]

# Samples that a NIC's bars go back.
_HISTORY = 60
# Lines of a terminal from which on the drops have a pane.
_ROOM_FOR_DROPS = 12


class TopApp(App[None]):
    """A live LAN: its NICs with their rates, and its last drops.

    A LAN that ends leaves the view as it was last, with a word that it has ended, until q.

    Arguments:
        lan: the LAN's name.
        every: seconds between two looks.
        sort: a key of :data:`vnet.top.layout.SORTS`.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #head, #titles, #drops-title { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #head { text-style: bold; }
    #head.ended { text-style: bold reverse; }
    #titles, #drops-title { text-style: underline; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    #filter.open { display: block; }
    #drops-pane { height: 30%; min-height: 4; max-height: 14; }
    #drops { height: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("s", "sort", "Sort"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("d", "drops", "Drops"),
        Binding("p,space", "pause", "Pause", key_display="p"),
        Binding("escape", "clear", "Clear filter", show=False),
    ]

    def __init__(self, lan: str, every: float = 1.0, sort: str = "traffic") -> None:
        super().__init__()
        self.lan = lan
        self.sorted_by = sort
        self.wanted = ""
        self.paused = False
        self.drops_wanted = True
        self.ended = False
        self.trouble = ""
        self._sample: Sample | None = None
        self._lines: dict[str, NicLine] = {}
        # Messages, which no thread waits for: this one waits for the threads when it ends.
        self._samples = Samples(
            lan,
            every,
            lambda sample, rates: self.post_message(self.Arrived(sample, rates)),
            lambda: self.post_message(self.Ended()),
        )
        self._drops = Drops(lan)
        self._told: tuple[int, int] = (0, 0)

    def compose(self) -> ComposeResult:
        yield Static(f"{self.lan}: waiting for the first look", id="head", markup=False)
        yield Static(id="titles", markup=False)
        yield NicTable()
        yield Input(placeholder="part of a NIC's name, network or address; Enter keeps it, Esc clears it", id="filter")
        with Vertical(id="drops-pane"):
            yield Static("last drops", id="drops-title", markup=False)
            yield Static(id="drops", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        # The terminal is given back in good order also to whoever ends this from elsewhere.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, None, 128 + signal.SIGTERM)
        self.query_one(NicTable).focus()
        self._samples.start()
        self._drops.start()
        self.set_interval(0.25, self._show_drops)

    def on_unmount(self) -> None:
        self._samples.stop()
        self._drops.stop()

    # What the threads tell

    class Arrived(Message):
        """A sample, and the rates since the one before."""

        def __init__(self, sample: Sample, rates: dict[str, NicRates]) -> None:
            super().__init__()
            self.sample = sample
            self.rates = rates

    class Ended(Message):
        """The LAN has ended."""

    def on_top_app_arrived(self, arrived: Arrived) -> None:
        self._sample = arrived.sample
        lines = {}
        for nic in arrived.sample.nics:
            shown = lines[nic.name] = NicLine(Row(nic, arrived.rates.get(nic.name)), [])
            if nic.name in self._lines:
                shown.history = self._lines[nic.name].history
            if shown.row.rates is not None:
                shown.history = [*shown.history, shown.traffic][-_HISTORY:]
        self._lines = lines
        if not self.paused:
            self._show()

    def on_top_app_ended(self) -> None:
        self.ended = True
        self.trouble = self._samples.trouble
        self._show()

    # What is shown

    def chosen(self) -> list[NicLine]:
        """The NICs that the filter lets through, sorted."""
        wanted = self.wanted.lower()
        found = [shown for shown in self._lines.values() if wanted in _searched(shown)]
        found.sort(key=lambda shown: natural(shown.nic.name))
        if self.sorted_by != "name":
            found.sort(key=SORTS[self.sorted_by], reverse=True)
        return found

    def _goes(self) -> bool:
        """Whether the view is being taken down: its widgets go first, while threads may still tell something."""
        return not self.query(NicTable)

    def _show(self) -> None:
        if self._goes():
            return
        chosen = self.chosen()
        networks = len({shown.nic.network for shown in self._lines.values()})
        table = self.query_one(NicTable)
        columns = fit(table.scrollable_content_region.width or 80, networks)
        table.show(chosen, columns)
        self.query_one("#titles", Static).update(heading(columns))
        head = self.query_one("#head", Static)
        head.update(self._head(chosen))
        head.set_class(self.ended, "ended")

    def _head(self, chosen: Iterable[NicLine]) -> str:
        if self._sample is None:
            why = f": {self.trouble}" if self.trouble else ""
            return f"{self.lan} {'has ended' if self.ended else 'is silent'}{why}; q leaves"
        every = list(self._lines.values())
        clock = time.strftime("%H:%M:%S", time.localtime(self._sample.time))
        shown = len(list(chosen))
        count = f"{shown} of {len(every)} NICs" if shown < len(every) else f"{len(every)} NICs"
        sums = [sum(getattr(each.row.rates, name) for each in every if each.row.rates) for name in ("tx", "tx_bits")]
        drops = sum(each.row.rates.dropped for each in every if each.row.rates)
        if self.ended:
            why = f" ({self.trouble})" if self.trouble else ""
            return f"{self.lan} has ended{why}; this is how it was at {clock}; q leaves"
        traffic = f"{rate(sums[0])}/s, {rate(sums[1])}bit/s"
        parts = [self.lan, clock, count, traffic, f"drops {rate(drops)}/s", f"by {self.sorted_by}"]
        if self.wanted:
            parts.append(f"filter {self.wanted}")
        if self.paused:
            parts.append("PAUSED")
        return "  ".join(parts)

    def _show_drops(self) -> None:
        if self._goes():
            return
        pane = self.query_one("#drops", Static)
        told = (len(self._drops.last), self._drops.last[-1].time if self._drops.last else 0)
        if self.paused or told == self._told:
            return
        self._told = told
        room = max(1, pane.size.height)
        last = list(self._drops.last)[-room:]
        pane.update("\n".join(_drop_line(drop) for drop in last))
        some = " (some of them: they come too fast)" if self._drops.sampled else ""
        self.query_one("#drops-title", Static).update(f"last drops{some}")

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Gives the drops their pane, where they are wanted and the NICs are left with some lines."""
        self.query_one("#drops-pane").display = self.drops_wanted and self.size.height >= _ROOM_FOR_DROPS
        self._told = (0, 0)
        self.call_after_refresh(self._show)

    # Keys

    def action_interrupt(self) -> None:
        """Ends as Ctrl-C ends other verbs."""
        self.exit(return_code=128 + signal.SIGINT)

    def action_sort(self) -> None:
        """Goes to the next of the sort keys."""
        keys = list(SORTS)
        self.sorted_by = keys[(keys.index(self.sorted_by) + 1) % len(keys)]
        self._show()

    def action_filter(self) -> None:
        """Opens the line for the filter."""
        line = self.query_one("#filter", Input)
        line.add_class("open")
        line.focus()

    def action_clear(self) -> None:
        """Shows all NICs again."""
        self.query_one("#filter", Input).value = ""
        self.wanted = ""
        self._close_filter()

    def action_drops(self) -> None:
        """Opens or closes the pane of drops."""
        self.drops_wanted = not self.drops_wanted
        self._arrange()

    def action_pause(self) -> None:
        """Holds the view, or lets it go on."""
        self.paused = not self.paused
        self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.wanted = event.value.strip()
        self._show()

    def on_input_submitted(self) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        self.query_one(NicTable).focus()
        self._show()


def _searched(shown: NicLine) -> str:
    return " ".join((shown.nic.name, shown.nic.network, *shown.nic.addresses)).lower()


def _drop_line(drop: Drop) -> str:
    seconds, rest = divmod(drop.time, 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 10**6:03}"
    where = drop.nic if drop.direction == "out" else f"to {drop.nic}"
    return f"{clock} {where:<12} {drop.reason.name.lower():<11} {summary(drop.head, drop.length)}"
