"""``vnet call``: call what a guest serves, from the shell."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vnet.cli.complete import complete_method, complete_server, complete_service
from vnet.cli.labverbs import AsJson, LabArgument, errors_as_json, print_json
from vnet.cli.looking import json_line, seconds
from vnet.cli.output import complain
from vnet.cli.table import print_table

if TYPE_CHECKING:
    from vnet.rpc.caller import Stream
    from vnet.rpc.description import Description

__all__ = ["add_to"]

# Characters of JSON that are still printed on one line.
_LINE = 80


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("call", short_help="Call what a node of a lab serves.")(call)


def call(
    lab: LabArgument,
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE", help="Who serves.", autocompletion=complete_server)
    ] = None,
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE", help="The service.", autocompletion=complete_service)
    ] = None,
    method: Annotated[
        str | None, typer.Argument(metavar="[METHOD", help="One of its methods.", autocompletion=complete_method)
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS...]]]", help="Arguments: values in order, or NAME=VALUE.", show_default=False),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", "-t", metavar="TIME", help="When the call, or the next of its values, is given up."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Call a method of a service that a node of a lab serves, and print what it returns.

    Without a method it lists the methods, with what they take and return; without a service, the services.

    A value is JSON, or else text; bytes are base64, text:WORDS, hex:DIGITS, @FILE, or - for standard input. What looks
    like an option goes behind --. A stream is printed value by value until it ends, or Ctrl-C ends it. Bytes go to a
    file or pipe as they are.

    Exit codes: 0 it returned, 1 it failed, 2 there is no such thing to call, or it takes other arguments.

    Example: vnet call office host disk read 7 size=512
    """
    patience = None if timeout is None else seconds(timeout, "--timeout", least=0.001)
    from vnet.lab.finding import find_lab

    with errors_as_json(as_json):
        found = find_lab(lab, kinds=("lab", "run", "program"), what="nothing can be called there").name
        if node is None or service is None:
            _list_services(found, node, as_json)
            return
        if method is None:
            _list_methods(found, node, service, patience, as_json)
            return
        place = {"lab": found, "node": node, "service": service, "method": method}
        _call(place, arguments or [], patience, as_json)


# --- calling ----------------------------------------------------------------------------------------------------------


def _call(place: dict[str, str], words: list[str], patience: float | None, as_json: bool) -> None:
    from vnet.lab.asking import open_service, plain
    from vnet.rpc.caller import Stream
    from vnet.rpc.shell import arguments_of

    opened = open_service(place["lab"], place["node"], place["service"], patience=patience)
    with _failing(place, as_json), opened as (_, caller):
        method = caller.interface.method(place["method"])
        args, named = arguments_of(caller.interface, method, words)
        answer = getattr(caller.with_timeout(patience), method.name)(*args, **named)
        if isinstance(answer, Stream):
            _print_stream(place, answer, as_json)
        elif as_json:
            print_json({**place, "result": plain(answer)})
        else:
            _print_value(answer)


@contextlib.contextmanager
def _failing(place: dict[str, str], as_json: bool) -> Iterator[None]:
    """Makes exit code 1 of what the service raised, and of a service that is there and does not answer.

    Everything else is wrong usage, and nothing was sent.
    """
    from vnet.errors import CallTimeout, LanClosed, ServiceBusy, ServiceGone
    from vnet.lab.asking import is_remote

    try:
        yield
    except Exception as error:
        if not is_remote(error) and not isinstance(error, (CallTimeout, LanClosed, ServiceBusy, ServiceGone)):
            raise
        _fail(place, error, as_json)


def _fail(place: dict[str, str], error: Exception, as_json: bool) -> NoReturn:
    from vnet.lab.asking import words_of

    trace = str(getattr(error, "remote_traceback", "") or "")
    if as_json:
        kind = str(getattr(error, "remote_type", type(error).__name__))
        print_json({**place, "error": {"type": kind, "message": str(error), "traceback": trace or None}})
    else:
        if trace and os.environ.get("VNET_TRACEBACK"):
            complain(trace.rstrip())
        called = " ".join(value for key, value in place.items() if key != "lab")
        complain(f"vnet: {called}: {words_of(error)}")
    raise typer.Exit(1)


def _print_stream(place: dict[str, str], stream: Stream, as_json: bool) -> None:
    from vnet.lab.asking import plain

    count = 0
    with stream:
        for value in stream:
            count += 1
            if as_json:
                json_line({"value": plain(value)})
            elif value is None or (not isinstance(value, (str, bytes)) and len(_as_json(value)) > _LINE):
                print(_as_json(value), flush=True)
            else:
                _print_value(value)
    if as_json:
        json_line({"format": 1, **place, "values": count})


def _as_json(value: Any) -> str:
    from vnet.lab.asking import plain

    return json.dumps(plain(value), ensure_ascii=False)


def _print_value(value: Any) -> None:
    """Text as it is, bytes as they are unless a person reads them, anything else as JSON; nothing for nothing."""
    if value is None:
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        _print_bytes(bytes(value))
        return
    if isinstance(value, str):
        print(value, flush=True)
        return
    from vnet.lab.asking import plain

    text = _as_json(value)
    print(text if len(text) <= _LINE else json.dumps(plain(value), ensure_ascii=False, indent=2), flush=True)


def _print_bytes(data: bytes) -> None:
    sys.stdout.flush()
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(each.isprintable() or each in "\n\t" for each in text):
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
        return
    for line in _dump(data):
        print(line, flush=True)


def _dump(data: bytes) -> Iterable[str]:
    """Sixteen bytes a line: where they lie, their digits, and what of it is printable."""
    for start in range(0, len(data), 16):
        piece = data[start : start + 16]
        shown = "".join(chr(each) if 32 <= each < 127 else "." for each in piece)
        yield f"{start:08x}  {piece.hex(' '):<47}  {shown}"


# --- listing ----------------------------------------------------------------------------------------------------------


def _list_services(lan: str, node: str | None, as_json: bool) -> None:
    from vnet.pipes import services

    found = [each for each in services(lan) if node in (None, each["guest"])]
    if as_json:
        told = [{"node": each["guest"], "service": each["service"], "clients": each["guests"]} for each in found]
        print_json({"lab": lan, "services": told})
    elif found:
        rows = [[each["guest"], each["service"], str(each["pid"]), f"{each['connected']:,}"] for each in found]
        print_table(["node", "service", "process", "connected so far"], rows)
    elif node is None:
        complain(f"nobody on {lan!r} serves anything now")
    else:
        others = ", ".join(sorted({each["guest"] for each in services(lan)}))
        raise ValueError(f"{node!r} serves nothing on {lan!r}; {f'who does: {others}' if others else 'nobody does'}")


def _list_methods(lan: str, node: str, service: str, patience: float | None, as_json: bool) -> None:
    from vnet.lab.asking import open_service

    place = {"lab": lan, "node": node, "service": service}
    with _failing(place, as_json), open_service(lan, node, service, patience=patience) as (description, _):
        pass
    if as_json:
        print_json({**place, "interface": description.to_json()})
        return
    _print_description(node, service, description)


def _print_description(node: str, service: str, description: Description) -> None:
    print(f"{service} of {node}: {description.name}")
    _print_doc(description.doc, "  ")
    for method in description.methods:
        print(f"\n  {method.text}")
        _print_doc(method.doc, "      ")
        if method.raises:
            print(f"      raises {', '.join(method.raises)}")


def _print_doc(doc: str, indent: str) -> None:
    for line in doc.splitlines():
        print(f"{indent}{line}".rstrip())
