"""Filters compiled: names become addresses, expressions programs, tables sets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

from vnet import _native, filters
from vnet.filtering.model import Filter, Rule, Table
from vnet.filtering.reading import RuleError

__all__ = ["Names", "check_filter", "compile_filter"]

# What no name looks like: names have letters, or no colon.
_ADDRESS = re.compile(r"([0-9.]+|[0-9a-f.]*:[0-9a-f:.]*)(/[0-9]{1,3})?", re.ASCII)
Names = Mapping[str, Sequence[str]]
_Prefixes = list[tuple[str, int]]


def compile_filter(made: Filter, hosts: Names | None = None, networks: Names | None = None) -> _native.Rules:
    """Compiles a filter.

    Arguments:
        made: the filter.
        hosts: the addresses of NICs by name, which ``host alice`` and ``from: alice`` mean.
        networks: the prefixes of networks by name, which ``from: desk`` means.

    Raises:
        RuleError: an expression does not compile, a name is nobody's, or the filter is too large.
        MachineLacks: it has an expression, and there is no libpcap.
    """
    hosts, networks = hosts or {}, networks or {}
    rules = [(rule.action.number, _match(rule, hosts, networks, (number,))) for number, rule in enumerate(made.rules)]
    try:
        return _native.Rules(rules, made.default.number)
    except (ValueError, OverflowError) as error:
        raise RuleError(str(error)) from None


def check_filter(made: Filter, hosts: Names, networks: Names) -> None:
    """Raises what :func:`compile_filter` would; in a :class:`RuleError` the path leads into the list of rules."""
    compile_filter(made, hosts, networks)


def _match(
    rule: Rule, hosts: Names, networks: Names, path: tuple[str | int, ...]
) -> (
    bytes
    | tuple[
        _Prefixes | None, _Prefixes | None, list[int] | None, list[tuple[int, int]] | None, list[tuple[int, int]] | None
    ]
    | None
):
    here = (*path, rule.action.value)
    if rule.match is None:
        return None
    if isinstance(rule.match, str):
        try:
            return filters.compile_filter(rule.match, hosts)
        except filters.FilterError as error:
            raise RuleError(str(error), here) from None
    table: Table = rule.match
    return (
        _prefixes(table.sources, hosts, networks, (*here, "from")),
        _prefixes(table.destinations, hosts, networks, (*here, "to")),
        None if table.protocols is None else list(table.protocols),
        None if table.from_ports is None else list(table.from_ports),
        None if table.ports is None else list(table.ports),
    )


def _prefixes(
    ends: tuple[str, ...] | None, hosts: Names, networks: Names, path: tuple[str | int, ...]
) -> _Prefixes | None:
    if ends is None:
        return None
    return [prefix for number, end in enumerate(ends) for prefix in _prefix(end, hosts, networks, (*path, number))]


def _prefix(end: str, hosts: Names, networks: Names, path: tuple[str | int, ...]) -> _Prefixes:
    if _ADDRESS.fullmatch(end):
        # As it was read: there may be thousands of them.
        address, _, bits = end.partition("/")
        return [(address, int(bits) if bits else 128 if ":" in end else 32)]
    if end in hosts and end in networks:
        raise RuleError(f"both a NIC and a network are called {end!r}; expected the address or the prefix", path)
    if end not in hosts and end not in networks:
        from vnet.lab.tree import did_you_mean

        close = did_you_mean(end, (*hosts, *networks))
        raise RuleError(f"no NIC and no network is called {end!r}{close}", path)
    prefixes = map(ipaddress.ip_network, hosts[end] if end in hosts else networks[end])
    return [(str(prefix.network_address), prefix.prefixlen) for prefix in prefixes]
