"""Scapy expressions of a lab file, such as ``IP(dst="bob")/UDP(dport=9)/Raw(b"x")``.

An expression is parsed and its names are looked up before anything of it runs.  It may use scapy's packets and random
values, a few harmless functions, literals, arithmetic, and comprehensions; it cannot reach files, sockets or programs.
This keeps a mistake from turning into a surprise; it is no wall against a hostile lab, which can run commands anyway.
"""

from __future__ import annotations

import ast
import functools
import ipaddress
import itertools
import logging
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vnet.lab.plan import Node
from vnet.lab.tree import did_you_mean

__all__ = ["ExpressionError", "datagrams", "scapy_names"]

# More than this was meant otherwise, and would fill the memory before the first datagram is sent.
MOST_DATAGRAMS = 1_000_000

_FUNCTIONS = ("fuzz", "fragment", "fragment6", "fragment6_old", "raw", "hex_bytes", "bytes_hex")
_BUILTINS = {
    f.__name__: f
    for f in (
        *(range, len, bytes, bytearray, int, float, str, bool, list, tuple, dict, set),
        *(min, max, sum, abs, chr, ord, zip, enumerate, sorted, reversed, divmod, hex, repr),
    )
}
_METHODS = ("encode", "fromhex", "join", "ljust", "rjust", "zfill", "to_bytes", "upper", "lower", "replace", "copy")
_NODES = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Store, ast.Constant, ast.keyword, ast.Starred),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    *(ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Subscript, ast.Slice, ast.Attribute),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.JoinedStr, ast.FormattedValue),
)
_RANGE = re.compile(r"[\d.*/-]+|[\da-fA-F:.*/-]*:[\da-fA-F:.*/-]*")


class ExpressionError(ValueError):
    """A packet expression is wrong; the message is one sentence."""


@functools.cache
def scapy_names() -> Mapping[str, Any]:
    """The names of ``scapy.all`` that an expression may use; scapy is imported here and nowhere earlier."""
    # Without routes or a manufacturer database scapy warns at import; neither matters on a LAN of our own.
    runtime = logging.getLogger("scapy.runtime")
    level = runtime.level
    runtime.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import scapy.all as scapy
    finally:
        runtime.setLevel(level)
    wanted = (scapy.Packet, scapy.VolatileValue)
    return {
        name: value
        for name, value in vars(scapy).items()
        if name in _FUNCTIONS or (isinstance(value, type) and issubclass(value, wanted))
    }


def datagrams(
    expression: str, *, sender: Node, nodes: Mapping[str, Node], count: int, seed: str
) -> tuple[tuple[bytes, ...], int]:
    """Build the datagrams of an expression.

    Args:
        expression: what the lab file holds.
        sender: its address becomes the source of each IP or IPv6 header that names none.
        nodes: their names may stand for addresses in ``src`` and ``dst``.
        count: how often the whole is sent.
        seed: random values of scapy follow from it.

    Returns:
        The datagrams, and how often to send them all: once when random values make each round different.

    Raises:
        ExpressionError: the expression cannot be parsed, names what it may not, or does not give packets.
    """
    tree = _parse(expression)
    names = scapy_names()
    _check(tree, names)
    tree = ast.fix_missing_locations(_NodeNames(nodes).visit(tree))
    state = random.getstate()
    random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _build(tree, names, sender, count)
    finally:
        random.setstate(state)


def _build(tree: ast.Expression, names: Mapping[str, Any], sender: Node, count: int) -> tuple[tuple[bytes, ...], int]:
    try:
        value = eval(compile(tree, "<packet>", "eval"), {"__builtins__": {}, **_BUILTINS, **names})
        parts = list(itertools.islice(_flatten(value), MOST_DATAGRAMS + 1))
        one_round = tuple(_limited(_bytes(part, sender) for part in parts))
        if not any(_is_random(part) for part in parts):
            return one_round, count
        rounds = itertools.chain(
            one_round, itertools.chain.from_iterable(_bytes(p, sender) for _ in range(count - 1) for p in parts)
        )
        return tuple(_limited([datagram] for datagram in rounds)), 1
    except ExpressionError:
        raise
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None
    except Exception as error:  # an expression can fail in as many ways as scapy has fields
        why = " ".join(str(error).split()) or type(error).__name__
        raise ExpressionError(f"scapy cannot build the packet: {why}") from None


def _limited(parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    for number, datagram in enumerate(itertools.chain.from_iterable(parts)):
        if number >= MOST_DATAGRAMS:
            raise ExpressionError(f"the expression gives more than {MOST_DATAGRAMS:,} datagrams")
        yield datagram


def _parse(expression: str) -> ast.Expression:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"not a Python expression{place}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"not a Python expression: {error}") from None


def _check(tree: ast.Expression, names: Mapping[str, Any]) -> None:
    # In reading order, so that the first mistake is told; what has no place of its own comes last.
    nowhere = len(ast.dump(tree))
    walked = sorted(ast.walk(tree), key=lambda n: (getattr(n, "lineno", nowhere), getattr(n, "col_offset", nowhere)))
    bound = {node.id for node in walked if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in walked:
        at = f" at character {node.col_offset + 1}" if hasattr(node, "col_offset") else ""
        if not isinstance(node, _NODES):
            raise ExpressionError(f"a packet expression may not hold {_kind(node)}{at}")
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS:
            raise ExpressionError(
                f"a packet expression may not use .{node.attr}{at}; it may use .{', .'.join(_METHODS)}"
            )
        if isinstance(node, ast.Name) and node.id not in names and node.id not in _BUILTINS and node.id not in bound:
            close = did_you_mean(node.id, names)
            raise ExpressionError(f"scapy has no packet called {node.id!r}{at}{close}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in bound:
            _check_fields(node, names.get(node.func.id), at)


def _kind(node: ast.AST) -> str:
    kinds = {ast.Lambda: "a lambda", ast.NamedExpr: "an assignment", ast.Await: "await", ast.Yield: "yield"}
    return kinds.get(type(node), f"a {type(node).__name__}")


def _check_fields(call: ast.Call, packet: Any, at: str) -> None:
    fields = [field.name for field in getattr(packet, "fields_desc", ())]
    if not fields:
        return
    known = {*fields, *getattr(packet, "deprecated_fields", {})}
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg not in known:
            close = did_you_mean(keyword.arg, fields)
            raise ExpressionError(
                f"{packet.__name__} has no field {keyword.arg!r}{at}{close}; its fields are {', '.join(fields)}"
            )


class _NodeNames(ast.NodeTransformer):
    """Puts addresses in place of node names in ``src`` and ``dst`` of IP and IPv6; scapy would ask the resolver."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    def visit_Call(self, call: ast.Call) -> ast.AST:
        self.generic_visit(call)
        if isinstance(call.func, ast.Name) and call.func.id in ("IP", "IPv6"):
            family = 4 if call.func.id == "IP" else 6
            for keyword in call.keywords:
                if keyword.arg in ("src", "dst"):
                    self._resolve(keyword.value, family)
        return call

    def _resolve(self, value: ast.expr, family: int) -> None:
        if isinstance(value, (ast.List, ast.Tuple)):
            for part in value.elts:
                self._resolve(part, family)
        elif isinstance(value, ast.Constant) and isinstance(value.value, str):
            value.value = self._address(value.value, family)

    def _address(self, text: str, family: int) -> str:
        if text in self._nodes:
            address = self._nodes[text].address(family)
            if address is None:
                raise ExpressionError(f"{text!r} has no IPv{family} address")
            return str(address)
        try:
            if ipaddress.ip_address(text).version == family:
                return text
            raise ExpressionError(f"{text} is not an IPv{family} address")
        except ExpressionError:
            raise
        except ValueError:
            looks_like_range = _RANGE.fullmatch(text) and any(sign in text for sign in "/*-")
            if looks_like_range:
                return text
            close = did_you_mean(text, self._nodes)
            raise ExpressionError(f"{text!r} is neither a node nor an IPv{family} address{close}") from None


def _flatten(value: Any) -> Iterator[Any]:
    import scapy.all as scapy

    if isinstance(value, (scapy.Packet, bytes, bytearray)):
        yield value
    elif isinstance(value, (list, tuple, set, Iterator)):
        for part in value:
            yield from _flatten(part)
    elif isinstance(value, type) and issubclass(value, scapy.Packet):
        raise ExpressionError(
            f"{value.__name__} is a kind of packet; write {value.__name__}() for a packet of that kind"
        )
    else:
        raise ExpressionError(f"expected packets or bytes, found {type(value).__name__}")


def _bytes(part: Any, sender: Node) -> Iterator[bytes]:
    import scapy.all as scapy

    if not isinstance(part, scapy.Packet):
        yield bytes(part)
        return
    if isinstance(part, (scapy.Ether, scapy.Dot3)):
        raise ExpressionError("the LAN carries IP datagrams, not Ethernet frames; begin with IP() or IPv6()")
    part = part.copy()
    family = 4 if isinstance(part, scapy.IP) else 6 if isinstance(part, scapy.IPv6) else None
    if family is not None and "src" not in part.fields:
        address = sender.address(family)
        if address is None:
            raise ExpressionError(f"{sender.name!r} has no IPv{family} address; give the packet a src")
        part.src = str(address)
    for packet in part:  # one for each combination of the values that its fields hold
        yield bytes(packet)


def _is_random(part: Any) -> bool:
    import scapy.all as scapy

    layer = part
    while isinstance(layer, scapy.Packet) and not isinstance(layer, scapy.NoPayload):
        values = itertools.chain(layer.fields.values(), layer.overloaded_fields.values(), layer.default_fields.values())
        if any(isinstance(value, scapy.VolatileValue) for value in values):
            return True
        layer = layer.payload
    return False
