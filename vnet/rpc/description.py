"""A service's interface told to those who do not have it: methods, types as terms, what is said about them.

A service sends it to whoever asks before saying hello.  A shell makes classes of it (:mod:`vnet.rpc.shapes`) and then
calls as everybody does, checked before anything is sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .interface import Interface
from .terms import text_of

__all__ = ["Description", "DescribedMethod", "DescribedParameter", "describe"]


class DescribedParameter(msgspec.Struct, forbid_unknown_fields=True):
    """A parameter.

    Attributes:
        kind: how it is given: ``any``, ``positional`` or ``keyword``.
        type: its term, see :mod:`vnet.rpc.terms`.
        text: the type as one would write it.
        default: the default as JSON text has it, where it is not required.
    """

    name: str
    kind: str
    type: dict[str, Any]
    text: str
    required: bool
    default: Any = None


class DescribedMethod(msgspec.Struct, forbid_unknown_fields=True):
    """A method.

    Attributes:
        text: the method as one would declare it.
        stream: whether it answers with one value after another.
        raises: the names of exceptions that it declares.
    """

    name: str
    digest: str
    text: str
    doc: str
    stream: bool
    parameters: list[DescribedParameter]
    result: dict[str, Any]
    raises: list[str]


class Description(msgspec.Struct, forbid_unknown_fields=True):
    """An interface.

    Attributes:
        fingerprint: equal where all methods are.
        definitions: the structures and enumerations that types refer to, by name.
    """

    name: str
    doc: str
    fingerprint: str
    methods: list[DescribedMethod]
    definitions: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def describe(declared: Interface) -> Description:
    """What a service tells of its interface."""
    methods = []
    for method in declared.numbered:
        parameters = [
            DescribedParameter(
                each.name,
                each.kind,
                each.term,
                text_of(each.term),
                each.required,
                None if each.required else msgspec.json.decode(msgspec.json.encode(each.default)),
            )
            for each in method.parameters
        ]
        named = [each.__name__ for each in method.raises]
        methods.append(
            DescribedMethod(
                method.name, method.digest, method.text(), method.doc, method.stream, parameters, method.result, named
            )
        )
    return Description(declared.name, declared.doc, declared.fingerprint, methods, dict(declared.definitions))
