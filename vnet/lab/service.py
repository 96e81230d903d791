"""What the base of a lab does at the request of ``vnet show``, ``exec``, ``logs`` and the other verbs.

===========  ==========================================  ==============================================================
``do``       arguments                                   answers
===========  ==========================================  ==============================================================
lab.show                                                 what the lab is, its networks, each node as it stands, what
                                                         was plugged into it, regions and services
lab.exec     ``node``                                    where and with which environment a command of the node runs;
                                                         the descriptors of its namespace, if it has one, come beside
lab.logs     ``node``, ``lines``, ``follow``             ``data``, pieces of what its commands printed, in base 64;
                                                         with ``command`` where there are several
lab.ping     ``from``, ``to``, ``count``, ``interval``,  whom it asks; then what came of each request
             ``timeout``, ``size``, ``family``
lab.link     ``link``, ``change``, ``weight``            ``links``: all of them, or those that are meant, a name or
                                                         two routers; as they stand after they were ``cut``, ``mend``
                                                         or ``weigh``
lab.restart  ``node``                                    the node is ready again
lab.apply    ``file``, ``directory``, ``name``,          what was changed; a descriptor with the lab's text comes with
             ``seed``, ``origin``                        the request
lab.down                                                 none: the base ends
===========  ==========================================  ==============================================================

A run serves the first five; only a lab that ``vnet up`` started can be changed.
"""

from __future__ import annotations

import base64
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnet.calls import Call
from vnet.errors import VnetError
from vnet.lab.addresses import parse_address
from vnet.lab.commands import shown
from vnet.lab.output import Output
from vnet.lab.pinging import NamespacePing
from vnet.lab.plan import Node
from vnet.lab.schema.routed import MOST_WEIGHT
from vnet.lab.session import NodeState, Session
from vnet.lab.steps.link import change_links, find_links
from vnet.lab.tree import did_you_mean

if TYPE_CHECKING:
    from vnet.lab.daemon import Wanted

__all__ = ["serve_lab", "serve_session"]

Answer = Mapping[str, Any] | None

# Bytes of a log that one answer brings.
_PIECE = 1 << 18
# Seconds between two looks whether who follows a log, or waits for the end, is still there.
_LOOK = 0.1


def serve_session(session: Session) -> None:
    """Serve what can be asked of every session."""
    verbs = {"show": _show, "exec": _exec, "logs": _logs, "ping": _ping, "link": _link}
    for do, handler in verbs.items():
        session.lan.serve(f"lab.{do}", _bound(handler, session))


def serve_lab(session: Session, wanted: Wanted) -> None:
    """Serve what can be asked of a lab that ``vnet up`` started; ``wanted`` ends it."""
    serve_session(session)
    for do, handler in {"restart": _restart, "apply": _apply}.items():
        session.lan.serve(f"lab.{do}", _bound(handler, session))
    session.lan.serve("lab.down", lambda _, call: _down(wanted, call))


def _bound(handler: Callable[[Session, Call], Answer], session: Session) -> Callable[[Any, Call], Answer]:
    return lambda _, call: handler(session, call)


# --- looking ----------------------------------------------------------------------------------------------------------


def _show(session: Session, _: Call) -> Answer:
    lab, nics = session.lab, session.lan.nics
    return {
        "lab": lab.name,
        "file": session.settings.origin or lab.file,
        "seed": lab.seed,
        "networks": [
            {"name": each.name, "prefixes": list(map(str, each.prefixes)), "mtu": each.mtu}
            for each in lab.networks.values()
        ],
        "nodes": [_plain(state, nics) for state in session.states()],
        "links": links_of(session),
        "plugged": [
            {
                "name": each.name,
                "kind": each.kind,
                "network": each.network,
                "addresses": list(each.addresses),
                "state": each.state,
            }
            for each in nics.values()
            if each.kind == "plug" and each.name not in lab.nodes
        ],
        **session.shared(),
    }


def _gateways(nics: Mapping[str, Any], node: Node) -> list[str]:
    """Where its default routes lead as the LAN stands."""
    if node.kind in ("router", "tap"):
        return []
    return [address for name in node.nics if name in nics for address in nics[name].gateways]


def _plain(state: NodeState, nics: Mapping[str, Any]) -> dict[str, Any]:
    node = state.node
    commands = [
        {"name": each.command.name or None, "command": shown(each.command.words), "pid": each.pid, "code": each.code}
        for each in state.commands
    ]
    return {
        "name": node.name,
        "kind": node.kind,
        "network": node.network,
        "networks": {each.network: list(map(str, each.addresses)) for each in node.joined},
        "addresses": list(map(str, node.addresses)),
        "state": "up" if state.up else "down",
        "since": state.since,
        "command": "; ".join(str(each["command"]) for each in commands) or None,
        "pid": state.pid,
        "code": state.code,
        "commands": commands,
        "interface": node.interface or ("eth0" if node.kind == "netns" else None),
        "bridge": node.bridge.name if node.bridge is not None else None,
        "gateway": _gateways(nics, node),
        "forward": node.forward,
        "nat": node.nat,
        "failure": state.failure,
    }


def _exec(session: Session, call: Call) -> Answer:
    """Where a node's commands run."""
    node = session.node(call.argument("node", str))
    if node.kind in ("host", "router"):
        able = [each.name for each in session.lab.nodes.values() if each.kind not in ("host", "router")]
        others = f"; those that do are {', '.join(able[:8])}" if able else ""
        what = "a built-in host" if node.kind == "host" else "a router"
        raise ValueError(f"{node.name!r} is {what}, which runs no commands{others}")
    if node.kind == "netns":
        words, files = _namespace(session, node).enter_words(["true"])
        words.pop()
        # The client has them by other numbers: it puts the i-th in the place of {i}.
        places = {str(fd): f"{{{index}}}" for index, fd in enumerate(files)}
        words = [re.sub(r"(?<=/fd/)\d+", lambda found: places.get(found[0], found[0]), word) for word in words]
        call.send({"enter": words}, files)
    elif node.kind == "tap":
        # Whoever asks is mostly in the same namespace as we are, and needs no way in.
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            call.send({"enter": ["nsenter", "--net=/proc/self/fd/{0}", "--"], "network": os.fstat(own).st_ino}, [own])
        finally:
            os.close(own)
    return {
        "kind": node.kind,
        "environment": {**dict(node.environment), "VNET_LAN": str(session.lan.name), **node.nic_environment},
        "directory": str(session.lab.directory),
    }


def _namespace(session: Session, node: Node) -> Any:
    """The namespace of a netns node.

    Raises:
        VnetError: it did not come up.
    """
    if node.name not in session.namespaces:
        raise VnetError(f"the namespace of {node.name!r} is not there: the node did not come up")
    return session.namespaces[node.name]


def _logs(session: Session, call: Call) -> Answer:
    lines, follow = call.argument("lines", int, None), call.argument("follow", bool, False)
    outputs = session.outputs(call.argument("node", str))
    readings = [_Reading(output, label.partition("/")[2], lines) for label, output in outputs.items()]
    for reading in readings:
        # With one command there is no need to say whose words these are.
        reading.about = {"command": reading.command} if len(readings) > 1 else {}
        if reading.missing:
            call.send({"missing": reading.missing, **reading.about})
    while True:
        more = False
        for reading in readings:
            if piece := reading.next():
                call.send({"data": base64.b64encode(piece).decode(), **reading.about})
                more = True
        if not follow and all(reading.position >= reading.end for reading in readings):
            return None
        if call.gone():
            return None
        if not more:
            readings[0].output.wait(readings[0].position, _LOOK)


class _Reading:
    """How far somebody has read what a command printed."""

    def __init__(self, output: Output, command: str, lines: int | None) -> None:
        self.output = output
        self.command = command
        self.about: dict[str, str] = {}
        self.position, kept = output.read()
        self.end = self.position + len(kept)
        self.missing = self.position if lines is None else 0
        if lines is not None:
            self.position = output.lines_from(lines)

    def next(self) -> bytes:
        """The next piece, and nothing where there is none yet."""
        self.position, piece = self.output.read(self.position, _PIECE)
        self.position += len(piece)
        return piece


# --- ping -------------------------------------------------------------------------------------------------------------


def _ping(session: Session, call: Call) -> Answer:
    sender = session.node(call.argument("from", str))
    if sender.kind not in ("host", "netns"):
        whose = {"process": "whose program owns its NIC", "tap": "an interface of this machine"}.get(
            sender.kind, "which sends nothing of its own"
        )
        raise ValueError(f"{sender.name!r} is a {sender.kind} node, {whose}; pings start at a host or in a namespace")
    target = call.argument("to", str)
    destination = _destination(session, sender, target, call.argument("family", int, None))
    count, size = call.argument("count", int, 0), call.argument("size", int, 56)
    interval, timeout = (float(call.argument(name, (int, float), 1.0)) for name in ("interval", "timeout"))
    if count < 0 or interval < 0 or timeout <= 0:
        raise ValueError("count and interval are not negative, and the timeout is above 0")
    sequence, due = 0, time.monotonic()
    while not count or sequence < count:
        # The first is sent before anything is said, so that what is wrong with it is all that is said.
        run = _start_ping(session, sender, destination, timeout, size)
        if not sequence:
            call.send({"target": target, "address": destination, "size": size})
        sequence += 1
        result = run.result()
        call.send(
            {
                "sequence": sequence,
                "seconds": result.rtts[0] if result.rtts else None,
                "error": result.errors[0] if result.errors else None,
            }
        )
        due = max(due + interval, time.monotonic())
        if (not count or sequence < count) and call.gone(max(0.0, due - time.monotonic())):
            break
    return None


def _start_ping(session: Session, sender: Node, destination: str, timeout: float, size: int) -> Any:
    if sender.kind == "host":
        return session.hosts[sender.name].start_ping(destination, count=1, timeout=timeout, size=size)
    return NamespacePing(
        _namespace(session, sender),
        destination,
        environment=session.environment_of(sender),
        directory=session.lab.directory,
        guard=session.lan,
        timeout=timeout,
        size=size,
    )


def _destination(session: Session, sender: Node, target: str, family: int | None) -> str:
    if target not in session.lab.nodes:
        nics = session.lan.nics
        # Guests that are no nodes of the lab: what was plugged, programs that attached.
        addresses = [parse_address(each) for each in nics[target].addresses] if target in nics else []
        wanted = [each for each in addresses if family in (None, each.version) and not each.is_link_local]
        if wanted and sender.address(wanted[0].version) is not None:
            return str(wanted[0])
        try:
            address = parse_address(target)
        except ValueError:
            close = did_you_mean(target, {**session.lab.nodes, **nics})
            raise ValueError(f"{target!r} is neither a node of the lab nor an IP address{close}") from None
        if sender.address(address.version) is None or family not in (None, address.version):
            wrong = f"{sender.name!r} has no IPv{address.version} address to ping {target} from"
            raise ValueError(wrong if family in (None, address.version) else f"{target} is no IPv{family} address")
        return str(address)
    node = session.lab.nodes[target]
    for version in (4, 6) if family is None else (family,):
        found = node.address(version)
        if found is not None and sender.address(version) is not None:
            return str(found)
    lacking = f"IPv{family} addresses" if family else "addresses of one family"
    raise ValueError(f"{sender.name!r} and {target!r} do not both have {lacking}")


# --- links ------------------------------------------------------------------------------------------------------------


def links_of(session: Session) -> list[dict[str, Any]]:
    """The links of a lab as they stand."""
    if not session.lab.links:
        return []
    return [link.as_dict() for link in session.lan.links.values()]


def _link(session: Session, call: Call) -> Answer:
    """Cut links, mend them, or weigh them; none of that: list them."""
    change, weight = call.argument("change", str, ""), call.argument("weight", int, None)
    if change not in ("", "cut", "mend", "weigh"):
        raise ValueError(f"links are cut, mended or weighed, not {change!r}")
    wanted = call.argument("link", list, [])
    lab = session.lab
    routers = {name: node for name, node in lab.nodes.items() if node.kind == "router"}
    if wanted:
        names = find_links(lab.links, routers, wanted if len(wanted) > 1 else str(wanted[0]))
        if change:
            if change == "weigh" and not 1 <= (weight or 0) <= MOST_WEIGHT:
                raise ValueError(f"a weight is 1 to {MOST_WEIGHT:,}, not {weight}")
            change_links(session.lan, names, change, weight)
        return {"links": [each for each in links_of(session) if each["name"] in names]}
    return {"links": links_of(session)}


# --- changing ---------------------------------------------------------------------------------------------------------


def _restart(session: Session, call: Call) -> Answer:
    session.restart(call.argument("node", str))
    return None


def _apply(session: Session, call: Call) -> Answer:
    from vnet.lab.source import Source, plan

    if len(call.files) != 1:
        raise ValueError("the lab's text comes as one descriptor with the request")
    with open(os.dup(call.files[0]), encoding="utf-8") as file:
        text = file.read()
    directory = Path(call.argument("directory", str))
    source = Source(call.argument("file", str), text, directory, call.argument("name", str))
    lab = plan(source, seed=call.argument("seed", int, None))
    if lab.name != session.lab.name:
        raise ValueError(f"this is lab {session.lab.name!r}, not {lab.name!r}")
    if call.argument("origin", str) != session.settings.origin:
        raise ValueError(f"this lab is up from {session.settings.origin}")
    return {"difference": session.apply(lab).as_json()}


def _down(wanted: Wanted, call: Call) -> Answer:
    # Who asked may be killed; then nothing that is slow to end is waited for.
    hurry = threading.Event()
    wanted.end(hurry.is_set)
    while not call.gone(_LOOK):
        pass
    hurry.set()
    return None
