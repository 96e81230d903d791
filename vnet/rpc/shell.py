"""Calls from a shell, which has no interface: it asks the service for it, and checks words against that.

Each word is an argument, in order, or ``name=value``.  A value is JSON, or else text: ``3``, ``'[1, 2]'``, ``alice``.
Where the service takes bytes, it is base64, as in JSON of the results, or says what it is: ``text:hello``,
``hex:00ff``, ``@FILE`` for a file's contents, or ``-`` for what standard input holds.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import InterfaceError
from .caller import Caller
from .channel import Channel, describe_over
from .description import Description
from .interface import Interface
from .links import PipeLink, pipe_size
from .method import Method, Parameter
from .shapes import interface_from
from .terms import Term
from .wire import Limits, check_timeout

if TYPE_CHECKING:
    from ..lan import Lan
    from ..sharing import Sharing

__all__ = ["arguments_of", "caller_of", "shell_call", "shell_describe"]

_NAMED = re.compile(r"(?s)([^\W\d]\w*)=(.*)")
_GREETING = 10.0


def caller_of(
    pipe: Any,
    where: str,
    *,
    timeout: float | None = None,
    limits: Limits | None = None,
    greeting: float = _GREETING,
) -> tuple[Description, Caller[Any]]:
    """Asks a service for its interface, and makes a caller of it whose methods take and give plain values.

    Arguments:
        pipe: connected to the service, of messages; closed with the caller, or with an error.
        where: what it is connected to, for messages: ``'disk' of 'host'``.
        timeout: seconds that each call waits for its answer.
        limits: what is taken of the service.
        greeting: seconds in which it must have told what it declares.

    Raises:
        ServiceGone, CallTimeout: the service does not answer, or not as one of calls.
        InterfaceError: what it tells of itself makes no sense.
    """
    link = PipeLink(pipe)
    limits = limits or Limits()
    # Whoever made the pipe may have made it smaller than calls would.
    limits = dataclasses.replace(limits, message=max(1024, min(limits.message, pipe.size // 2)))
    try:
        description = describe_over(link, where, greeting)
        channel = Channel(link, interface_from(description), where, limits, greeting)
    except BaseException:
        link.close()
        raise
    return description, Caller(channel, check_timeout("timeout", timeout), lambda handle: handle)


def shell_describe(lan: str | Lan | Sharing, guest: str, service: str) -> Description:
    """Returns what a service tells of its interface.

    Arguments:
        lan: the name of a live LAN, or a LAN of this process, for the operator; or a guest, which asks.
        guest: who serves.
        service: its name.
    """
    description, caller = caller_of(_pipe_to(lan, guest, service, Limits()), f"{service!r} of {guest!r}")
    caller.close()
    return description


def shell_call(
    lan: str | Lan | Sharing,
    guest: str,
    service: str,
    method: str,
    words: Sequence[str],
    *,
    timeout: float | None = None,
) -> Iterator[str]:
    """Calls a method with arguments as a shell has them, and yields results as lines of JSON.

    There is one line, or one for each value of a stream, as it comes.  Bytes are base64.  Closing the iterator ends the
    call.

    Arguments:
        lan: the name of a live LAN, or a LAN of this process, for the operator; or a guest, which calls.
        guest: who serves.
        service: its name.
        method: the method's.
        words: the arguments, in order or as ``name=value``.
        timeout: seconds to wait for the answer, or for each value.

    Raises:
        InterfaceError: the service has no such method, or it takes other arguments; nothing was sent then.
        Exception: what the service raised.
    """
    limits = Limits()
    where = f"{service!r} of {guest!r}"
    _, caller = caller_of(_pipe_to(lan, guest, service, limits), where, timeout=timeout, limits=limits)
    try:
        found = caller.interface.method(method)
        args, kwargs = arguments_of(caller.interface, found, words)
        answer = getattr(caller.proxy, method)(*args, **kwargs)
        if found.stream:
            for value in answer:
                yield json_of(value)
        else:
            yield json_of(answer)
    finally:
        caller.close()


def _pipe_to(lan: Any, guest: str, service: str, limits: Limits) -> Any:
    if hasattr(lan, "_door"):
        return lan.connect(guest, service, messages=True, size=pipe_size(limits))
    from ..pipes import connect_operator

    return connect_operator(lan, guest, service, messages=True, size=pipe_size(limits))


def json_of(value: Any) -> str:
    """A plain value as JSON on one line; bytes in it are base64."""
    return msgspec.json.encode(value).decode()


def arguments_of(interface: Interface, method: Method, words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Makes arguments of words.

    Raises:
        InterfaceError: there are more than the method takes, one twice, or one that cannot be what it takes.
    """
    named = {each.name: each for each in method.parameters}
    by_place = [each for each in method.parameters if each.kind != "keyword"]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        found = _NAMED.fullmatch(word)
        if found is not None and found[1] in named:
            if found[1] in kwargs:
                raise InterfaceError(f"{method.full_name}: argument {found[1]!r} is given twice")
            kwargs[found[1]] = _value(interface, method, named[found[1]], found[2])
        elif len(args) == len(by_place):
            raise InterfaceError(f"{method.full_name}: {word!r} is one argument too many; it takes {method.text()}")
        else:
            args.append(_value(interface, method, by_place[len(args)], word))
    return args, kwargs


def _value(interface: Interface, method: Method, parameter: Parameter, word: str) -> Any:
    """The value that a word is."""
    kinds = set(_kinds(parameter.term, interface))
    if kinds & {"bytes", "bytearray", "memoryview"}:
        if word == "null" and "none" in kinds:
            return None
        try:
            return _bytes(word)
        except (ValueError, OSError) as error:
            raise InterfaceError(
                f"{method.full_name}: argument {parameter.name!r} is bytes, and {word[:60]!r} is none of base64, "
                f"text:..., hex:..., @FILE and - ({error})"
            ) from None
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return word
    wanted = {each.name: each.type for each in msgspec.structs.fields(method.arguments)}[parameter.name]
    # Text that looks like a number is text where text is wanted and no number is; what is neither is told of as it is.
    for each in (value, word):
        with contextlib.suppress(msgspec.ValidationError, ValueError, TypeError, RecursionError):
            msgspec.convert(each, wanted, str_keys=True)
            return each
    return value


def _kinds(term: Term, interface: Interface) -> Iterator[str]:
    """The types that a term may be, at its top."""
    if "ref" in term:
        yield interface.definitions[term["ref"]]["type"]
    elif term["type"] == "union":
        for each in term["any"]:
            yield from _kinds(each, interface)
    else:
        yield term["type"]


def _bytes(word: str) -> bytes:
    if word.startswith("text:"):
        return word[5:].encode()
    if word.startswith("hex:"):
        return bytes.fromhex(word[4:])
    if word.startswith("@"):
        return Path(word[1:]).read_bytes()
    if word == "-":
        return sys.stdin.buffer.read()
    if len(word) > 1 and word[0] == word[-1] == '"':
        word = json.loads(word)
    try:
        return base64.b64decode(word, validate=True)
    except binascii.Error as error:
        raise ValueError(f"as base64: {str(error).lower()}") from None
