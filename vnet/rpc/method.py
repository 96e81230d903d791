"""A method of an interface: binds, checks and encodes arguments and results, and says what is wrong with them."""

from __future__ import annotations

import difflib
import enum
import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import InterfaceError
from . import depth
from .sentences import described, plain, short
from .terms import Term, text_of

__all__ = ["Method", "Parameter", "WrongResult", "handles", "has_region"]

# What the encoder copies in and the decoder copies out again, unchanged: looking twice at a large one shows nothing.
_EXACT = {"str": str, "bytes": bytes, "bool": bool, "none": type(None)}
# Encoded bytes up to which the check costs less than the question whether it can be left out.
_SMALL = 4096

_ENCODER = msgspec.msgpack.Encoder()
_PLACE = re.compile(r"(?s)(?P<what>.*) - at (?P<key>`key` in )?`\$\[(?P<index>\d+)\](?P<rest>.*)`$")


class WrongResult(InterfaceError):
    """An implementation returned something other than its interface declares."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        term: its type.
        required: whether it has no default.
        kind: how it is given: ``any``, ``positional`` or ``keyword``.
        default: where it is not required.
        region: whether it takes a region, and so is a handle on the wire.
        readonly: whether the service maps that region for reading only.
    """

    name: str
    term: Term
    required: bool
    kind: str = "any"
    default: Any = None
    region: bool = False
    readonly: bool = False


@dataclass(frozen=True, eq=False)
class Method:
    """A method of an interface, compiled.

    Attributes:
        interface: the interface's name.
        number: its place in the interface, from 0; the number on the wire is the service's.
        stream: whether it answers with one value after another.
        result: the type of what it returns, or of each value.
        digest: equal on two sides where the same goes over the pipe.
        nesting: how deep arguments, and results, can be nested; ``None`` where only the bounds of a service say.
    """

    interface: str
    name: str
    number: int
    parameters: tuple[Parameter, ...]
    result: Term
    stream: bool
    doc: str
    digest: str
    arguments: type[msgspec.Struct]
    argument_decoder: msgspec.msgpack.Decoder[Any]
    result_decoder: msgspec.msgpack.Decoder[Any]
    nesting: tuple[int | None, int | None]
    raises: tuple[type[Exception], ...] = ()
    signature: inspect.Signature = field(default_factory=inspect.Signature)

    @property
    def full_name(self) -> str:
        """The method's name with its interface's, as messages have it."""
        return f"{self.interface}.{self.name}"

    @functools.cached_property
    def regions(self) -> tuple[int, ...]:
        """The places of the parameters that take regions."""
        return tuple(place for place, each in enumerate(self.parameters) if each.region)

    @functools.cached_property
    def returns_region(self) -> bool:
        """Whether the result, or each value, is a region."""
        return has_region(self.result)

    @functools.cached_property
    def _flat(self) -> tuple[type, ...] | None:
        """The exact type of each argument where that alone is all that there is to check."""
        flat = tuple(_EXACT.get(each.term.get("type", ""), object) for each in self.parameters)
        return flat if all(len(each.term) == 1 for each in self.parameters) and object not in flat else None

    @functools.cached_property
    def _flat_result(self) -> type | None:
        return _EXACT.get(self.result.get("type", "")) if len(self.result) == 1 else None

    @functools.cached_property
    def _by_structure(self) -> bool:
        """Whether the structure itself binds arguments as the method would: its fields can all be given by name."""
        return all(each.kind != "positional" for each in self.parameters)

    def text(self) -> str:
        """The method as one would declare it."""
        told: list[str] = []
        for each in self.parameters:
            star = "*, " if each.kind == "keyword" and not any("*, " in one for one in told) else ""
            default = (
                ""
                if each.required
                else f" = {each.default if isinstance(each.default, enum.Enum) else short(each.default)}"
            )
            told.append(f"{star}{each.name}: {text_of(each.term)}{default}")
        result = text_of(self.result)
        return f"{self.name}({', '.join(told)}) -> {f'Iterator[{result}]' if self.stream else result}"

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any], head: int, depth_limit: int) -> bytearray:
        """Binds, checks and encodes arguments, behind ``head`` bytes of room.

        Raises:
            InterfaceError: the method does not take them; the message says which, what it is, and what was expected.
        """
        if self._by_structure:
            try:
                request = self.arguments(*args, **kwargs)
            except TypeError:
                raise self._misfit(args, kwargs) from None
        else:
            request = self._bind(args, kwargs)
        for place in self.regions:
            self._pass_region(request, self.parameters[place])
        message = bytearray(head)
        try:
            _ENCODER.encode_into(request, message, head)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._unfit(request, error) from None
        if len(message) > _SMALL and tuple(map(type, msgspec.structs.astuple(request))) == self._flat:
            return message
        try:
            self.argument_decoder.decode(memoryview(message)[head:])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._wrong(request, error) from None
        if self.nesting[0] is None and depth.too_deep(memoryview(message)[head:], depth_limit):
            raise InterfaceError(f"{self.full_name}: the arguments are nested more than {depth_limit} deep")
        return message

    def decode(self, data: bytes | memoryview, depth_limit: int) -> msgspec.Struct:
        """Decodes and checks arguments that somebody else encoded.

        Raises:
            InterfaceError: they are not what the method takes.
        """
        if self.nesting[0] is None and depth.too_deep(data, depth_limit):
            raise InterfaceError(f"{self.full_name}: the arguments are nested more than {depth_limit} deep")
        try:
            request: msgspec.Struct = self.argument_decoder.decode(data)
        except Exception as error:
            # Classes that arguments are made of may have checks of their own, which raise what they like.
            raise self._wrong(None, error) from None
        return request

    def encode_result(self, value: Any, head: int) -> bytearray:
        """Checks and encodes what the method returned, or one value of a stream, behind ``head`` bytes of room.

        Raises:
            WrongResult: that is not what the interface declares.
        """
        message = bytearray(head)
        try:
            _ENCODER.encode_into(handles(self.result, value) if self.returns_region else value, message, head)
            if len(message) <= _SMALL or type(value) is not self._flat_result:
                self.result_decoder.decode(memoryview(message)[head:])
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            expected = text_of(self.result)
            raise WrongResult(
                f"{self.full_name} {'yielded' if self.stream else 'returned'} {described(value)}, "
                f"and declares {expected}: {plain(error)}"
            ) from None
        return message

    def decode_result(self, data: bytes | memoryview, depth_limit: int) -> Any:
        """Decodes and checks what a service answered.

        Raises:
            InterfaceError: it is not what the interface declares.
        """
        if self.nesting[1] is None and depth.too_deep(data, depth_limit):
            raise InterfaceError(f"{self.full_name}: the service's answer is nested more than {depth_limit} deep")
        try:
            return self.result_decoder.decode(data)
        except Exception as error:
            raise InterfaceError(
                f"{self.full_name}: the service answered with something other than {text_of(self.result)}: "
                f"{plain(error)}"
            ) from None

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> msgspec.Struct:
        try:
            return self.arguments(**self.signature.bind(*args, **kwargs).arguments)
        except TypeError:
            raise self._misfit(args, kwargs) from None

    def _pass_region(self, request: msgspec.Struct, parameter: Parameter) -> None:
        """Puts a region's handle in its place."""
        given = getattr(request, parameter.name)
        try:
            setattr(request, parameter.name, handles(parameter.term, given))
        except TypeError:
            raise InterfaceError(
                f"{self.full_name}: argument {parameter.name!r} is {described(given)}: "
                f"expected {text_of(parameter.term)}"
            ) from None

    def _misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> InterfaceError:
        """The sentence about arguments that do not fit the parameters."""
        names = [each.name for each in self.parameters]
        for given in kwargs:
            if given not in names:
                near = difflib.get_close_matches(given, names, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {self.text()}"
                return InterfaceError(f"{self.full_name} has no parameter {given!r}{hint}")
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            return InterfaceError(f"{self.full_name}: {error}; it takes {self.text()}")
        return InterfaceError(f"{self.full_name} takes {self.text()}")

    def _unfit(self, request: msgspec.Struct, error: Exception) -> InterfaceError:
        """The sentence about arguments of which one cannot be encoded at all."""
        for parameter, value in zip(self.parameters, msgspec.structs.astuple(request), strict=True):
            try:
                _ENCODER.encode(value)
            except (TypeError, ValueError, OverflowError, RecursionError) as reason:
                return InterfaceError(
                    f"{self.full_name}: argument {parameter.name!r} is {described(value)}: "
                    f"expected {text_of(parameter.term)} ({plain(reason)})"
                )
        return InterfaceError(f"{self.full_name}: {plain(error)}")

    def _wrong(self, request: msgspec.Struct | None, error: Exception) -> InterfaceError:
        """The sentence about an argument of the wrong type, with its name for its place."""
        found = _PLACE.match(str(error))
        if found is None or int(found["index"]) >= len(self.parameters):
            return InterfaceError(f"{self.full_name}: {plain(error)}")
        parameter = self.parameters[int(found["index"])]
        what = plain(found["what"])
        if found["rest"] or found["key"]:
            at = f"{'a key of ' if found['key'] else ''}{found['rest'] or 'it'}"
            return InterfaceError(f"{self.full_name}: argument {parameter.name!r}, at {at}: {what}")
        value = "" if request is None else f" is {described(getattr(request, parameter.name))}"
        why = "" if what.startswith("expected") and request is not None else f" ({what})"
        return InterfaceError(
            f"{self.full_name}: argument {parameter.name!r}{value}: expected {text_of(parameter.term)}{why}"
        )


def has_region(term: Term) -> bool:
    return any(each.get("type") == "region" for each in (term, *term.get("any", ())))


@functools.lru_cache(maxsize=1)
def _region() -> type[Any]:
    # Not before somebody passes one: that module is not for those who only call.
    from ..sharing.region import Region

    return Region


def handles(term: Term, value: Any) -> Any:
    """What goes over the pipe of a region.

    Raises:
        TypeError: the value is none.
    """
    if isinstance(value, _region()):
        return value.handle
    if value is None and "any" in term:
        return None
    raise TypeError("a region goes over the pipe by its handle, and this is no region")
