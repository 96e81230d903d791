"""``vnet scapy``: scapy's console, or a script, with a NIC on a live LAN as its interface."""

from __future__ import annotations

import ast
import contextlib
import importlib
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnet.cli.complete import complete_node
from vnet.cli.looking import LanArgument, lan_name
from vnet.errors import NameTaken, VnetError

if TYPE_CHECKING:
    from vnet.nic import Nic

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("scapy", short_help="Open scapy's console on a live LAN.")(scapy)


def scapy(
    lab: LanArgument,
    nic: Annotated[
        str,
        typer.Argument(
            metavar="[NIC]",
            help="The name of its NIC: a new one, or that of a process node that nobody holds; a name is made up when "
            "left out.",
            autocompletion=complete_node,
        ),
    ] = "",
    address: Annotated[
        list[str] | None,
        typer.Option("--address", "-a", metavar="A", help="Its address; once more for each further one."),
    ] = None,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="The network that it joins, where the LAN has several.")
    ] = "",
    code: Annotated[
        str, typer.Option("-c", metavar="CODE", help="Run this, print what its last expression gives, and leave.")
    ] = "",
) -> None:
    """Open scapy's console with a NIC on a live LAN as its interface; sr1(IP(dst="10.0.0.2")/ICMP()) just works.

    In the console, nic is the NIC and lan_name the name of the LAN. The NIC leaves the LAN when the console ends. What
    comes on standard input is run as a script, where that is no terminal.

    Example: vnet scapy office -c 'sr1(IP(dst="10.0.0.2")/ICMP(), timeout=1)'
    """
    with _attached(lan_name(lab), nic, address or None, network or None) as mine, _signals_as_exits():
        names: dict[str, Any] = {"nic": mine, "lan_name": mine.lan}
        if code:
            raise typer.Exit(_run(code, names, mine, show=True))
        if not sys.stdin.isatty():
            raise typer.Exit(_run(sys.stdin.read(), names, mine, show=False))
        _interact(names, mine)


@contextlib.contextmanager
def _attached(lan: str, name: str, addresses: list[str] | None, network: str | None) -> Iterator[Nic]:
    import vnet

    names = [name] if name else itertools.chain(["scapy"], (f"scapy-{number}" for number in itertools.count(2)))
    for each in names:
        try:
            nic = vnet.attach(lan, each, addresses, network=network)
            break
        except NameTaken as error:
            if name:
                raise VnetError(f"{error}; without a name, vnet scapy {lan} makes one up") from None
        except VnetError:
            raise
        except ValueError as error:
            # Such as: the LAN has several networks.
            raise VnetError(f"{error}{'' if network else '; --network NAME says which'}") from None
    with nic:
        yield nic


@contextlib.contextmanager
def _signals_as_exits() -> Iterator[None]:
    """A console that is told to end, or whose terminal goes away, ends in good order, so that the NIC leaves.

    A signal that comes just before the console waits for a key would be heard only after that key: Python runs its
    handlers between two steps of a program.  So a thread, which hears of signals at once, repeats it until it is heard.
    """
    heard, main = threading.Event(), threading.get_ident()

    def leave(number: int, _frame: FrameType | None) -> None:
        if not heard.is_set():
            heard.set()
            raise SystemExit(128 + number)

    def repeat(told: int) -> None:
        while byte := os.read(told, 1):
            while byte[0] in before and not heard.wait(0.05):
                signal.pthread_kill(main, byte[0])

    told, tell = os.pipe()
    os.set_blocking(tell, False)
    before = {number: signal.signal(number, leave) for number in (signal.SIGHUP, signal.SIGTERM)}
    earlier = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    thread = threading.Thread(target=repeat, args=(told,), name="vnet-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heard.set()
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(tell)
        thread.join()
        os.close(told)


def _scapy(nic: Nic) -> Any:
    """scapy's configuration, with the NIC as its interface."""
    importlib.import_module("scapy.all")  # with it, NICs become interfaces
    from scapy.config import conf

    conf.iface = nic.name
    return conf


def _run(code: str, names: dict[str, Any], nic: Nic, *, show: bool) -> int:
    """Runs a script in scapy's namespace.  Returns the exit code: what went wrong in it is shown as Python shows it."""
    from scapy.main import init_session

    conf = _scapy(nic)
    conf.verb = 0
    session: dict[str, Any] = init_session(mydict=names, ret=True)
    session["__name__"] = "__main__"
    file = "<-c>" if show else "<stdin>"
    try:
        tree = ast.parse(code, file)
        last = tree.body.pop() if show and tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec"), session)
        if isinstance(last, ast.Expr):
            found = eval(compile(ast.Expression(last.value), file, "eval"), session)
            if found is not None:
                print(repr(found))
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        # The first frame is this function's.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, None if isinstance(error, SyntaxError) else trace)
        return 1
    return 0


def _interact(names: dict[str, Any], nic: Nic) -> None:
    import logging

    from scapy.main import interact

    conf = _scapy(nic)
    conf.fancy_banner = False
    # Python's own console is nothing to be warned of.
    logging.getLogger("scapy.loading").addFilter(lambda record: "No alternative Python" not in record.getMessage())
    print(
        f"NIC {nic.name} ({', '.join(nic.addresses)}) on the LAN {nic.lan} is conf.iface, and here as nic; "
        "Ctrl-D takes it off the LAN",
        flush=True,
    )
    interact(mydict=names, argv=["scapy"], loglevel=logging.WARNING)
