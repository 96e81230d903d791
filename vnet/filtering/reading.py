"""Filters as users write them, in Python and in lab files, read into the model; each mistake with its place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from vnet.filtering.model import PROTOCOLS, WITH_PORTS, Action, Filter, Rule, Table
from vnet.filters import FilterError

__all__ = ["ACTIONS", "COLUMNS", "RuleError", "read_filter"]

ACTIONS = tuple(action.value for action in Action)
COLUMNS = ("from", "to", "protocol", "ports", "from_ports")
_EVERYTHING = "any"
_FILTER_KEYS = ("rules", "default")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RANGE = re.compile(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", re.ASCII)
Place = tuple[str | int, ...]


class RuleError(FilterError):
    """A filter is wrong.

    Attributes:
        message: what was wrong and what was expected.
        path: where in what was written: keys, and numbers of list items from 0.
        at_key: whether it is the key at the path's end, rather than its value.
    """

    def __init__(self, message: str, path: Place = (), *, at_key: bool = False) -> None:
        self.message = message
        self.path = path
        self.at_key = at_key
        rule = next((f"rule {step + 1}: " for step in path if isinstance(step, int)), "")
        super().__init__(rule + message)


def read_filter(said: Any, default: str | None = None) -> Filter:
    """Reads a filter.

    Arguments:
        said: a list of rules; one rule; a mapping of ``rules`` and ``default``; or a :class:`Filter`, which is returned
            as it is.  A rule is text such as ``"deny tcp port 22"``, an action and an expression of pcap-filter(7), or
            ``any``; or a mapping of an action to an expression or to a table.
        default: what is said of datagrams that no rule matches, where ``said`` does not say it; ``None`` for ``allow``.

    Raises:
        RuleError: something in it is wrong.
    """
    if isinstance(said, Filter):
        return said
    rules: Any = said
    path: Place = ()
    if isinstance(said, Mapping) and not any(key in ACTIONS for key in said):
        _known(said, (*_FILTER_KEYS, *ACTIONS), _FILTER_KEYS, ())
        if not said:
            raise RuleError("the filter is empty; expected rules, a list of them, or default")
        default = said.get("default", default)
        rules, path = said.get("rules", []), ("rules",)
    action = Action.ALLOW if default is None else _action(default, ("default",))
    if isinstance(rules, str | Mapping):
        return Filter((_rule(rules, path),), action)
    if not isinstance(rules, list | tuple):
        raise RuleError(f"expected a list of rules such as 'deny tcp port 22', found {_shown(rules)}", path)
    return Filter(tuple(_rule(rule, (*path, number)) for number, rule in enumerate(rules)), action)


def _action(said: Any, path: Place) -> Action:
    if said in ACTIONS:
        return Action(said)
    raise RuleError(f"expected {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}, found {_shown(said)}{_close(said)}", path)


def _close(said: Any, known: tuple[str, ...] = ACTIONS) -> str:
    from vnet.lab.tree import did_you_mean

    return did_you_mean(said, known) if isinstance(said, str) else ""


def _shown(said: Any) -> str:
    from vnet.lab.units import shown

    return shown(said)


def _known(said: Mapping[Any, Any], known: tuple[str, ...], expected: tuple[str, ...], path: Place) -> None:
    for name in said:
        if name not in expected:
            words = f"unknown key {_shown(name)}{_close(name, known)}; expected one of {', '.join(expected)}"
            raise RuleError(words, (*path, name), at_key=True)


# Rules


def _rule(said: Any, path: Place) -> Rule:
    if isinstance(said, Rule):
        return said
    if isinstance(said, str):
        action, _, rest = said.strip().partition(" ")
        if not action:
            raise RuleError("the rule is empty; expected one such as 'deny tcp port 22'", path)
        return Rule(_action(action, path), _expression(rest or None, path))
    if not isinstance(said, Mapping):
        raise RuleError(f"expected a rule such as 'deny tcp port 22', found {_shown(said)}", path)
    actions = [name for name in said if name in ACTIONS]
    if len(actions) > 1:
        words = f"a rule does one thing, but this one has both {actions[0]!r} and {actions[1]!r}"
        raise RuleError(words, (*path, actions[1]), at_key=True)
    if not actions and any(name in COLUMNS for name in said):
        raise RuleError(f"it is not said what the rule does; expected {{deny: {{{next(iter(said))}: ...}}}}", path)
    _known(said, ACTIONS, ACTIONS, path)
    if not actions:
        raise RuleError(f"the rule is empty; expected one of {', '.join(ACTIONS)}", path)
    (name,) = actions
    match, here = said[name], (*path, name)
    if isinstance(match, Mapping):
        return Rule(Action(name), _table(match, here))
    if match is None or isinstance(match, str):
        return Rule(Action(name), _expression(match, here))
    raise RuleError(
        f"expected an expression such as 'tcp port 22', a table such as {{protocol: tcp, ports: 22}}, or any; "
        f"found {_shown(match)}",
        here,
    )


def _expression(said: str | None, path: Place) -> str | None:
    if said is None or said.strip() == _EVERYTHING:
        return None
    if said.strip() in ("", "all", "everything"):
        raise RuleError(
            f"{said!r} is no expression; expected one such as 'tcp port 22', or any for every datagram", path
        )
    return said.strip()


# Tables


def _table(said: Mapping[Any, Any], path: Place) -> Table:
    _known(said, COLUMNS, COLUMNS, path)
    if not said:
        raise RuleError(f"the table is empty; expected one of {', '.join(COLUMNS)}, or any for every datagram", path)
    ports = _ports(said["ports"], (*path, "ports")) if "ports" in said else None
    from_ports = _ports(said["from_ports"], (*path, "from_ports")) if "from_ports" in said else None
    has_ports = ports is not None or from_ports is not None
    protocols = tuple(sorted(PROTOCOLS[name] for name in WITH_PORTS)) if has_ports else None
    if "protocol" in said:
        protocols = _protocols(said["protocol"], has_ports, (*path, "protocol"))
    return Table(
        _ends(said["from"], (*path, "from")) if "from" in said else None,
        _ends(said["to"], (*path, "to")) if "to" in said else None,
        protocols,
        ports,
        from_ports,
    )


def _items(said: Any, what: str, path: Place) -> list[tuple[Any, Place]]:
    """The items of a list, or the one that stands for it, with their places."""
    if not isinstance(said, list | tuple):
        return [(said, path)]
    if not said:
        raise RuleError(f"the list is empty; expected at least one {what}", path)
    return [(item, (*path, number)) for number, item in enumerate(said)]


def _ends(said: Any, path: Place) -> tuple[str, ...]:
    return tuple(_end(item, place) for item, place in _items(said, "prefix", path))


def _end(said: Any, path: Place) -> str:
    expected = "expected a prefix or an address such as 10.0.0.0/24, or the name of a NIC or a network"
    if isinstance(said, ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network):
        said = str(said)
    if not isinstance(said, str):
        raise RuleError(f"{expected}; found {_shown(said)}", path)
    text = said.strip()
    if "%" not in text:
        try:
            return str(ipaddress.ip_network(text)) if "/" in text else str(ipaddress.ip_address(text))
        except ValueError:
            pass
        try:
            loose = ipaddress.ip_interface(text) if "/" in text else None
        except ValueError:
            loose = None
        if loose is not None:
            raise RuleError(
                f"{said!r} is an address inside {loose.network}; expected {loose.network} or {loose.ip}", path
            )
    # A name may look like much, but not like an address that is wrong.
    if _NAME.fullmatch(text) and not re.fullmatch(r"[0-9.]+", text):
        return text
    raise RuleError(f"{expected}; found {_shown(said)}", path)


def _protocols(said: Any, ports: bool, path: Place) -> tuple[int, ...]:
    found = []
    for item, place in _items(said, "protocol", path):
        number = _protocol(item, place)
        if ports and number not in [PROTOCOLS[name] for name in WITH_PORTS]:
            raise RuleError(f"only {', '.join(WITH_PORTS[:-1])} and {WITH_PORTS[-1]} have ports, not {item}", place)
        found.append(number)
    return tuple(sorted(set(found)))


def _protocol(said: Any, path: Place) -> int:
    names = tuple(PROTOCOLS)
    expected = f"expected {', '.join(('tcp', 'udp', 'icmp', 'icmp6'))}, another name or a number from 0 to 255"
    if isinstance(said, str):
        name = said.strip().lower()
        name = "icmp6" if name in ("icmpv6", "ipv6-icmp") else name
        if name in PROTOCOLS:
            return PROTOCOLS[name]
        if name.isascii() and name.isdigit() and int(name) <= 255:
            return int(name)
        raise RuleError(f"unknown protocol {_shown(said)}{_close(name, names)}; {expected}", path)
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= 255:
        raise RuleError(f"{expected}; found {_shown(said)}", path)
    return said


def _ports(said: Any, path: Place) -> tuple[tuple[int, int], ...]:
    return tuple(_port_range(item, place) for item, place in _items(said, "port", path))


def _port_range(said: Any, path: Place) -> tuple[int, int]:
    expected = "expected a port from 0 to 65535, or a range such as 1000-2000"
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= 65535:
        return said, said
    if isinstance(said, str):
        text = said.strip()
        found = _RANGE.fullmatch(text)
        if found or (text.isascii() and text.isdigit() and len(text) <= 5):
            first, last = (int(found[1]), int(found[2])) if found else (int(text), int(text))
            if first > last:
                raise RuleError(f"the range {text} is empty; expected {last}-{first}", path)
            if last <= 65535:
                return first, last
    raise RuleError(f"{expected}; found {_shown(said)}", path)
