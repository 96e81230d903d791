"""Exceptions on their way from a service to its caller.

What goes over the pipe is a name, plain values and text: nothing that is imported or run.  The receiver makes an
exception only of a class that it has beforehand: Python's own, vnet's, and those that its interface declares
(:func:`vnet.rpc.raises`).  Whatever else the service raised arrives as :class:`vnet.RemoteError`, which names it.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from .. import errors
from ..errors import RemoteError, VnetError

__all__ = ["Failure", "exception_of", "failure_of"]

_LONGEST_TEXT = 8192
_MOST_VALUES = 32

# Not those that mean something to the code around a call: an iterator would end without a word.
_PYTHONS: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type)
    and issubclass(value, Exception)
    and not issubclass(value, (StopIteration, StopAsyncIteration, Warning))
    # Groups hold other exceptions, which are no plain values.
    and not name.endswith("ExceptionGroup")
}
_OURS: dict[str, type[Exception]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, VnetError)
}

# Of which msgspec cannot say that text and bytes are both among it; _is_plain() says it.
Plain = Any


class Failure(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """An exception, as it goes over the pipe.

    Attributes:
        origin: where its class comes from: ``python``, ``vnet``, ``interface``, or nothing where it is unknown.
        name: the class's name.
        message: what ``str()`` of it says.
        values: its arguments, where they are all plain; ``None`` otherwise.
        attributes: what else it bears, as far as that is plain.
        trace: where the service raised it; empty where the service does not tell.
    """

    origin: str
    name: str
    message: str
    values: list[Plain] | None
    attributes: dict[str, Plain]
    trace: str


DECODER = msgspec.msgpack.Decoder(Failure)


def failure_of(error: BaseException, declared: Mapping[str, type[Exception]], *, traces: bool = True) -> Failure:
    """What is sent of an exception.

    Arguments:
        error: the exception.
        declared: those that the interface declares, by name.
        traces: send where it was raised, too.
    """
    name = type(error).__name__
    origin = ""
    for where, known in (("interface", declared), ("python", _PYTHONS), ("vnet", _OURS)):
        if known.get(name) is type(error):
            origin = where
            break
    try:
        message = str(error)
    except Exception:
        message = f"<{name}, which cannot be shown>"
    values = _values_of(error)
    return Failure(
        origin,
        name if origin else f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        _clean(message),
        None if values is None else [_clean(value) for value in values],
        _attributes_of(error) if origin else {},
        _trace_of(error) if traces else "",
    )


def refusal_of(error: VnetError) -> Failure:
    """What is sent where the service's own machinery refuses; nobody's code raised it."""
    return Failure("vnet", type(error).__name__, _clean(str(error)), [_clean(str(error))], {}, "")


def exception_of(failure: Failure, declared: Mapping[str, type[Exception]], where: str) -> Exception:
    """The exception that a failure is, or a :class:`vnet.RemoteError`.

    Arguments:
        failure: what came.
        declared: the exceptions that the caller's interface declares, by name.
        where: who raised it, for the note.
    """
    known = {"interface": declared, "python": _PYTHONS, "vnet": _OURS}.get(failure.origin, {})
    cls = known.get(failure.name)
    error: Exception | None = None
    if cls is not None and failure.values is not None and all(map(_is_plain, failure.values)):
        error = _made(cls, failure)
    if error is None:
        error = RemoteError(f"{failure.name}: {failure.message}" if failure.message else failure.name)
    error.remote_type = failure.name  # type: ignore[attr-defined]
    error.remote_traceback = failure.trace  # type: ignore[attr-defined]
    if failure.trace:
        # As add_note() of Python 3.11 does it, which 3.10 does not show but keeps.
        notes = [*getattr(error, "__notes__", ()), f"raised by {where}:\n{failure.trace.rstrip()}"]
        error.__notes__ = notes  # type: ignore[attr-defined]
    return error


def _made(cls: type[Exception], failure: Failure) -> Exception | None:
    values = failure.values or []
    try:
        if failure.origin == "python":
            return cls(*values)
        # No code of the class runs: its values are what its own constructor made of them over there.
        error = cls.__new__(cls, *values)
        native = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        native.__init__(error, *values)  # type: ignore[misc]
        for name, value in failure.attributes.items():
            if _is_plain(value) and name.isidentifier() and not name.startswith("_") and not hasattr(cls, name):
                setattr(error, name, value)
        return error
    except Exception:
        return None


def _values_of(error: BaseException) -> list[Any] | None:
    values = list(error.args)
    if isinstance(error, OSError) and error.filename is not None and len(values) == 2:
        # Its arguments leave the files out.
        values.append(error.filename)
        if error.filename2 is not None:
            values += [None, error.filename2]
    if len(values) > _MOST_VALUES or not all(_is_plain(value) for value in values):
        # The message says as much as can be said.
        return [str(error)] if type(error) in _PYTHONS.values() and type(error).__init__ in _SIMPLE else None
    return values


# Constructors that take whatever comes.
_SIMPLE = (Exception.__init__, KeyError.__init__, ValueError.__init__, LookupError.__init__)


def _attributes_of(error: BaseException) -> dict[str, Any]:
    told = {}
    for name, value in list(vars(error).items())[:_MOST_VALUES]:
        if not name.startswith("_") and _is_plain(value) and not name.startswith("remote_"):
            told[name] = _clean(value)
    return told


def _trace_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return ""
    if len(text) > _LONGEST_TEXT:
        text = "...\n" + text[-_LONGEST_TEXT:]
    return str(_clean(text))


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64
    return type(value) in (type(None), bool, float, str, bytes)


def _clean(value: Any) -> Any:
    """Text that can be encoded, and no more of anything than anybody reads."""
    if isinstance(value, str):
        return value[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, bytes):
        return value[:_LONGEST_TEXT]
    return value
