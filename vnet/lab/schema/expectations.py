"""What steps can be held to, as a lab file says it; one model for each kind of step."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from vnet.lab.mistakes import mistake
from vnet.lab.schema.words import (
    CountExpectation,
    DurationExpectation,
    FractionExpectation,
    Pattern,
    RateExpectation,
    Said,
    SizeExpectation,
    Texts,
    key,
)
from vnet.lab.units import shown

__all__ = [
    "AnyExpect",
    "CallExpect",
    "ExecExpect",
    "HttpExpect",
    "InjectExpect",
    "PingAllExpect",
    "PingExpect",
    "RepeatExpect",
    "ReplayExpect",
    "ResultExpect",
    "TcpExpect",
    "TextExpect",
    "TracerouteExpect",
    "TrafficExpect",
    "WaitUntilExpect",
]


class TextExpect(Said):
    """Text, compared whole (trailing newlines aside), or by what it holds."""

    short_forms = ({"type": "string"},)

    equals: str | None = key("all of it, trailing newlines aside", "done", default=None)
    contains: Texts | None = key("text that is in it, or a list of such", "done", ["a", "b"], default=None)
    matches: Pattern | None = key("a Python regular expression that is found in it", "^[0-9]+ of", default=None)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if not isinstance(said, (str, dict)):
            raise mistake(f"expected text, or a mapping with equals, contains or matches; found {shown(said)}")
        return {"equals": said} if isinstance(said, str) else said


class AnyExpect(Said):
    """What every step can be held to."""

    time: DurationExpectation | None = key("how long the step took", "< 5s", default=None)


class PingExpect(AnyExpect):
    """What came of echo requests."""

    sent: CountExpectation | None = key("requests", 5, default=None)
    received: CountExpectation | None = key("replies", 5, ">= 4", default=None)
    loss: FractionExpectation | None = key("share of the requests without a reply", "0%", "< 5%", default=None)
    min: DurationExpectation | None = key("shortest round trip", "> 1us", default=None)
    avg: DurationExpectation | None = key("mean round trip", "< 30ms", "1ms..30ms", default=None)
    max: DurationExpectation | None = key("longest round trip", "< 100ms", default=None)
    error: TextExpect | None = key(
        "what came in place of replies, and from whom: ICMP errors, or verdicts such as `no_host`",
        "time exceeded from 10.1.0.1",
        default=None,
    )


class TracerouteExpect(AnyExpect):
    """Whom the way led over."""

    path: Texts | None = key(
        "those who answered, the destination included: nodes or addresses, `*` for who did not",
        ["edge", "core", "bob"],
        default=None,
    )
    hops: CountExpectation | None = key("how many that were", 3, default=None)
    reached: bool | None = key("whether the destination answered; without it and `error`, `true`", False, default=None)
    error: TextExpect | None = key("what ended the way before", {"contains": "network unreachable"}, default=None)


class PingAllExpect(PingExpect):
    """What came of echo requests between many; times and counts are over all pairs together."""

    pairs: CountExpectation | None = key("ordered pairs that were tried", 20, default=None)
    failed: CountExpectation | None = key("pairs with any loss", 0, default=None)


class TcpExpect(AnyExpect):
    """What came of a connection."""

    state: TextExpect | None = key(
        "`open`, `refused`, `reset`, `unreachable` or `timed out`; without it, `open`", "refused", default=None
    )
    connect: DurationExpectation | None = key("time until the connection was open", "< 20ms", default=None)


class HttpExpect(TcpExpect):
    """What came of an HTTP request."""

    status: CountExpectation | None = key("status code; without it, 200", 200, ">= 400", default=None)
    body: TextExpect | None = key("the body of the answer, as text", "hello", {"contains": "hello"}, default=None)


class InjectExpect(AnyExpect):
    """What became of the datagrams; one key for each verdict (a test holds the two lists together)."""

    sent: CountExpectation | None = key("datagrams", 100, default=None)
    delivered: CountExpectation | None = key("into the input buffer of a NIC", 100, default=None)
    no_route: CountExpectation | None = key("for an address outside of every network", 0, default=None)
    no_host: CountExpectation | None = key("for an address that nobody has", 1, default=None)
    buffer_full: CountExpectation | None = key("no room in the receiver's input buffer", 0, default=None)
    nic_down: CountExpectation | None = key("the receiver's NIC has no guest", 0, default=None)
    too_big: CountExpectation | None = key("larger than the MTU", 0, default=None)
    malformed: CountExpectation | None = key("not an IP datagram, or not one that routers forward", 0, default=None)
    ttl_exceeded: CountExpectation | None = key("TTL or hop limit ran out at a router", 0, default=None)
    filtered: CountExpectation | None = key("a filter did not let them pass", 0, default=None)
    rate: RateExpectation | None = key("delivered bits a second", "> 1 Mbit/s", default=None)


class ReplayExpect(InjectExpect):
    """As for ``inject``."""

    skipped: CountExpectation | None = key("frames of the recording that are not IP", 0, default=None)


class TrafficExpect(AnyExpect):
    """What arrived, over all flows together."""

    throughput: RateExpectation | None = key(
        "received bits a second: of IP datagrams for UDP, of the stream for TCP", "> 1 Gbit/s", default=None
    )
    loss: FractionExpectation | None = key("share of the datagrams that never arrived (UDP)", "0%", default=None)
    jitter: DurationExpectation | None = key(
        "mean deviation of the spacing of arrivals from that of departures, RFC 3550 (UDP)", "< 1ms", default=None
    )
    min: DurationExpectation | None = key("shortest latency, one way (UDP)", "> 0s", default=None)
    avg: DurationExpectation | None = key("mean latency (UDP)", "< 1ms", default=None)
    p50: DurationExpectation | None = key(
        "latency that half of the datagrams stay within (UDP)", "< 100us", default=None
    )
    p90: DurationExpectation | None = key("that 90% stay within (UDP)", "< 1ms", default=None)
    p99: DurationExpectation | None = key("that 99% stay within (UDP)", "< 5ms", default=None)
    max: DurationExpectation | None = key("longest latency (UDP)", "< 50ms", default=None)
    sent: CountExpectation | None = key("datagrams sent (UDP)", 1000, default=None)
    received: CountExpectation | None = key("datagrams received, each counted once (UDP)", 1000, default=None)
    out_of_order: CountExpectation | None = key("datagrams that came after a later one (UDP)", 0, default=None)
    duplicates: CountExpectation | None = key("datagrams that came once more (UDP)", 0, default=None)
    bytes_sent: SizeExpectation | None = key("bytes sent, of what `throughput` counts", "> 1MB", default=None)
    bytes_received: SizeExpectation | None = key("bytes received", "> 1MB", default=None)
    failed: CountExpectation | None = key("flows that did not come about; without it, 0", 0, default=None)


class ExecExpect(AnyExpect):
    """What a command printed and how it ended."""

    code: CountExpectation | None = key("exit code; without it, 0", 0, "!= 0", default=None)
    stdout: TextExpect | None = key("its standard output", "done", {"contains": "done"}, default=None)
    stderr: TextExpect | None = key("its standard error", "", default=None)


class ResultExpect(Said):
    """What a call returned, compared as a value, or by what its text holds.

    A value that is no mapping may stand for the mapping.
    """

    short_forms = ({"type": ["string", "number", "boolean", "null", "array"]},)

    equals: Any = key("the value; bytes as base64, what a stream gave as a list", 7, {"free": 12}, default=None)
    contains: Texts | None = key("text that is in it, or a list of such", "done", ["a", "b"], default=None)
    matches: Pattern | None = key("a Python regular expression that is found in it", "^[0-9]+ of", default=None)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        return said if isinstance(said, dict) else {"equals": said}


class CallExpect(AnyExpect):
    """What came of a call."""

    result: ResultExpect | None = key(
        "what it returned; text for `contains` and `matches` is the value itself if it is text, else its JSON",
        7,
        {"equals": {"free": 12}},
        {"contains": "ok"},
        default=None,
    )
    error: TextExpect | None = key(
        "the exception that came instead, such as `KeyError: 7`; without it, none",
        {"contains": "NotPermitted"},
        default=None,
    )


class WaitUntilExpect(AnyExpect):
    """How the waiting went."""

    tries: CountExpectation | None = key("how often the condition was looked at", "< 10", default=None)


class RepeatExpect(AnyExpect):
    """How the rounds went."""

    rounds: CountExpectation | None = key("rounds that were taken", 10, default=None)
    failed: CountExpectation | None = key(
        "rounds in which a step failed; with it, no failed round ends the step or fails it by itself",
        "< 2",
        default=None,
    )
