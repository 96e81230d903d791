"""What nodes with a stack of the kernel's say beside other nodes: commands, interfaces, bridges, gateways."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from vnet.lab.mistakes import mistake
from vnet.lab.schema.words import TEXT_OR_LIST, CommandLine, Said, check_command, key, one_or_many
from vnet.lab.units import shown

__all__ = ["BridgeFile", "CommandFile", "Commands", "Gateway", "InterfaceName"]

_COMMAND_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
# The kernel takes 15 bytes (IFNAMSIZ, with the end), and more signs than shells and configuration files bear with.
_INTERFACE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}"
# What every namespace has, and names that stand for all interfaces under /proc/sys/net.
_NOT_INTERFACES = ("lo", "all", "default")


def _command_name(said: Any) -> str:
    if not isinstance(said, str) or not re.fullmatch(_COMMAND_NAME, said):
        raise ValueError(f"{shown(said)} is not a name; expected up to 32 letters, digits, '.', '_' and '-'")
    return said


class CommandFile(Said):
    """One of the commands of a node."""

    command: CommandLine = key("a line for the shell, or a list of words", "tcpdump -l", ["tcpdump", "-l"])
    name: (
        Annotated[
            str, PlainValidator(_command_name), WithJsonSchema({"type": "string", "pattern": f"^{_COMMAND_NAME}$"})
        ]
        | None
    ) = key(
        "what its log is called: `NODE.NAME.log`, `vnet logs LAB NODE/NAME`",
        "web",
        left_out="=its number",
        default=None,
    )

    @model_validator(mode="before")
    @classmethod
    def _may_be_words(cls, said: Any) -> Any:
        return {"command": said} if isinstance(said, list) else said


def _commands(said: Any) -> Any:
    """The commands of a node, whichever way they are written: one as text, as words or as a mapping; or a list."""
    if isinstance(said, dict):
        return [said]
    if not isinstance(said, list) or all(isinstance(item, str) for item in said):
        return [{"command": check_command(said)}]
    for index, item in enumerate(said):
        if isinstance(item, str):
            message = f"expected a command as a mapping such as {{command: {item}}}, as the others are"
            raise mistake(message if any(isinstance(other, dict) for other in said) else _words(item), index)
    return said


def _words(item: str) -> str:
    return f"expected a list of words, as the other commands are; found {shown(item)}"


Commands = Annotated[list[CommandFile], BeforeValidator(_commands)]


def _interface(said: Any) -> str:
    if not isinstance(said, str) or not re.fullmatch(_INTERFACE, said):
        long = f", which has {len(said)} letters" if isinstance(said, str) and len(said) > 15 else ""
        raise ValueError(
            f"expected the name of an interface, up to 15 letters, digits, '.', '_' and '-'; found {shown(said)}{long}"
        )
    if said in _NOT_INTERFACES:
        raise ValueError(f"expected the name of an interface such as eth0; the kernel keeps {said!r} for itself")
    return said


INTERFACE_SCHEMA = {"type": "string", "pattern": f"^{_INTERFACE}$", "not": {"enum": [*_NOT_INTERFACES]}}
InterfaceName = Annotated[str, PlainValidator(_interface), WithJsonSchema(INTERFACE_SCHEMA)]


def _ports(said: Any) -> list[str]:
    items = one_or_many("the name of an interface", said)
    for index, item in enumerate(items):
        try:
            _interface(item)
        except ValueError as error:
            raise mistake(str(error), *([index] if items is said else [])) from None
        if item in items[:index]:
            raise mistake(f"{item!r} is here twice; an interface is in a bridge once", index)
    return [str(item) for item in items]


class BridgeFile(Said):
    """A Linux bridge.  Its name may stand for the mapping."""

    short_forms = ({**INTERFACE_SCHEMA, "examples": ["br0"]},)

    name: InterfaceName = key("its name; it is made, and goes with the node, where it is not there", "br0")
    ports: Annotated[
        list[str],
        PlainValidator(_ports),
        WithJsonSchema({"anyOf": [INTERFACE_SCHEMA, {"type": "array", "items": INTERFACE_SCHEMA}]}),
    ] = key("interfaces of this machine that are put into it beside the tap", ["eth1"], left_out="=none", default=[])

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, said: Any) -> Any:
        if isinstance(said, str):
            return {"name": said}
        if not isinstance(said, dict):
            raise mistake(f"expected the name of a bridge such as br0, or a mapping with 'name'; found {shown(said)}")
        return said

    @model_validator(mode="after")
    def _is_not_its_own_port(self) -> BridgeFile:
        if self.name in self.ports:
            raise mistake(f"{self.name!r} cannot be a port of itself", "ports")
        return self


def _gateway(said: Any) -> bool | list[str]:
    if isinstance(said, bool):
        return said
    items = one_or_many("an address, a node, or true", said)
    if not items:
        raise ValueError("the list is empty; expected at least one address")
    return [str(item) for item in items]


Gateway = Annotated[
    bool | list[str],
    PlainValidator(_gateway),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                TEXT_OR_LIST["anyOf"][0],
                {**TEXT_OR_LIST["anyOf"][1], "minItems": 1},
            ]
        }
    ),
]
