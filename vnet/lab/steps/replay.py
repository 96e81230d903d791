"""``replay``: send the datagrams of a capture file between nodes of the lab."""

from __future__ import annotations

import ipaddress
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from vnet.errors import CaptureError
from vnet.lab.addresses import parse_address
from vnet.lab.expect import expectations
from vnet.lab.plan import Address
from vnet.lab.readdress import addresses_of, readdress
from vnet.lab.recording import Recording, read_recording
from vnet.lab.schema import ReplayStepFile
from vnet.lab.steps.base import USUAL_TIMEOUT, Outcome, Stage, Step, StepContext
from vnet.lab.steps.sending import BATCH, Tally, batches, sleep_until
from vnet.lab.tree import did_you_mean

__all__ = ["ReplayStep", "plan"]


@dataclass(frozen=True)
class Departure:
    """One datagram, ready to be sent as the NIC of ``sender``, ``time`` seconds after the first."""

    time: float
    sender: str
    datagram: bytes


@dataclass(frozen=True)
class ReplayStep(Step):
    """``departures`` at ``speed`` times the recorded pace, all of them ``count`` times."""

    kind: ClassVar[str] = "replay"

    file: str
    departures: tuple[Departure, ...] = field(repr=False)
    skipped: int
    warnings: tuple[str, ...]
    speed: float
    count: int
    block: bool

    def title(self) -> str:
        times = f" {self.count} times" if self.count > 1 else ""
        pace = (
            "as fast as possible"
            if math.isinf(self.speed)
            else "as recorded"
            if self.speed == 1
            else f"at {self.speed:g} times the recorded speed"
        )
        return f"replay {self.file} ({len(self.departures):,} datagrams){times} {pace}"

    @property
    def usual_timeout(self) -> float:
        recorded = max((departure.time for departure in self.departures), default=0.0)
        return recorded / self.speed * self.count + USUAL_TIMEOUT

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(departure.sender for departure in self.departures))

    def run(self, stage: Stage) -> Outcome:
        tally = Tally()
        for _ in range(self.count):
            start = time.perf_counter()
            for due, sender, datagrams in self._batches():
                sleep_until(start + due, stage.limit)
                tally.send(stage, sender, datagrams, block=self.block)
        skipped = self.skipped * self.count
        summary = tally.summary() + (f", {skipped:,} skipped (not IP)" if skipped else "")
        return Outcome(summary, tally.metrics() | {"skipped": skipped}, details=self.warnings)

    def _batches(self) -> Iterator[tuple[float, str, list[bytes]]]:
        """What goes out in one call: neighbours of one sender, and of one moment unless the pace does not matter."""
        for (due, sender), group in itertools.groupby(
            self.departures, lambda d: (0.0 if math.isinf(self.speed) else d.time / self.speed, d.sender)
        ):
            for batch in batches(group, BATCH):
                yield due, sender, [departure.datagram for departure in batch]


def plan(said: ReplayStepFile, context: StepContext) -> ReplayStep:
    """Read the capture of a replay step and put the lab's addresses into it.

    Raises:
        LabError: the file cannot be read, a mapping is wrong, or it is not known as whom to send a datagram.
    """
    recording = _recording(said.replay.file, context)
    mapping = _mapping(said.replay.map, recording, context)
    packed = {recorded.packed: lab.packed for recorded, lab in mapping.items()}
    departures = [Departure(record.time, "", readdress(record.datagram, packed)) for record in recording.datagrams]
    return ReplayStep(
        name=said.name or "",
        line=context.line,
        expectations=expectations(said.expect),
        timeout=said.timeout,
        file=said.replay.file,
        departures=_with_senders(departures, said.replay.from_, context),
        skipped=recording.skipped,
        warnings=tuple(f"{said.replay.file}: {warning}" for warning in recording.warnings),
        speed=said.replay.speed,
        count=said.replay.count,
        block=said.replay.block,
    )


def _recording(file: str, context: StepContext) -> Recording:
    path = Path(context.directory) / file
    try:
        recording = read_recording(path)
    except CaptureError as error:
        close = ""
        if not path.exists() and path.parent.is_dir():
            close = did_you_mean(path.name, sorted(entry.name for entry in path.parent.iterdir()))
        raise context.error(f"{file!r} {error}{close}", "file") from None
    if not recording.datagrams:
        raise context.error(f"{file!r} holds no IP datagrams", "file")
    return recording


def _mapping(said: dict[str, str], recording: Recording, context: StepContext) -> dict[Address, Address]:
    seen = {address for record in recording.datagrams for address in addresses_of(record.datagram) or ()}
    mapping: dict[Address, Address] = {}
    for recorded_text, lab_text in said.items():
        try:
            recorded = parse_address(recorded_text)
        except ValueError:
            message = f"{recorded_text!r} is not an IP address; expected one that was recorded"
            raise context.error(message, "map", recorded_text, at_key=True) from None
        if recorded.packed not in seen:
            known = [str(ipaddress.ip_address(packed)) for packed in sorted(seen)]
            message = f"{recorded} does not occur in the recording{did_you_mean(str(recorded), known)}"
            raise context.error(message, "map", recorded_text, at_key=True)
        if recorded in mapping:
            raise context.error(f"{recorded} is mapped twice", "map", recorded_text, at_key=True)
        mapping[recorded] = _lab_address(recorded, recorded_text, lab_text, context)
    return mapping


def _lab_address(recorded: Address, key: str, text: str, context: StepContext) -> Address:
    if text in context.nodes:
        address = context.nodes[text].address(recorded.version)
        if address is None:
            raise context.error(f"{text!r} has no IPv{recorded.version} address to stand for {recorded}", "map", key)
        return address
    try:
        address = parse_address(text)
    except ValueError:
        close = did_you_mean(text, context.nodes)
        raise context.error(f"{text!r} is neither a node nor an IP address{close}", "map", key) from None
    if address.version != recorded.version:
        raise context.error(f"{address} cannot stand for {recorded}, which is IPv{recorded.version}", "map", key)
    return address


def _with_senders(departures: list[Departure], sender: str | None, context: StepContext) -> tuple[Departure, ...]:
    if sender is not None:
        name = context.guest(sender, "from").name
        return tuple(replace(departure, sender=name) for departure in departures)
    owners = {address.packed: node.name for address, node in context.owners.items()}
    strangers: Counter[bytes] = Counter()
    found: list[Departure] = []
    for departure in departures:
        source = (addresses_of(departure.datagram) or (b"", b""))[0]
        if source not in owners:
            strangers[source] += 1
        found.append(replace(departure, sender=owners.get(source, "")))
    if strangers:
        first, count = next(iter(strangers.items()))
        address = ipaddress.ip_address(first) if first else "no readable address"
        others = f" (so do {len(strangers) - 1} other addresses)" if len(strangers) > 1 else ""
        raise context.error(
            f"{count:,} of {len(departures):,} datagrams come from {address}, which is no node's address{others}; "
            "map it to a node, or name with 'from' the node to send everything as",
            "map",
        )
    return tuple(found)
