"""Programs of a test as guests of its LAN."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vnet.errors import MachineLacks, VnetError
from vnet.lab.commands import Command, command_environment, describe_end, shown

if TYPE_CHECKING:
    from vnet.lan import Lan
    from vnet.testing.watch import Watch

__all__ = ["Guest", "StartGuest", "wait_output"]


class Guest:
    """A program that runs as a guest of the test's LAN, with a NIC of its own.

    Attributes:
        name: its NIC's name.
        addresses: its NIC's addresses, IPv4 first.
        pid: its process id.
    """

    def __init__(self, name: str, addresses: tuple[str, ...], command: Command) -> None:
        self.name = name
        self.addresses = addresses
        self.pid = command.process.pid
        self._command = command

    def __repr__(self) -> str:
        return f"<Guest {self.name} {' '.join(self.addresses)}: {shown(self._command.command)}>"

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` while it runs."""
        return self._command.code

    @property
    def output(self) -> str:
        """What it has printed so far, errors too; of more than a mebibyte, the last."""
        if self.code is not None:
            self._command.output.finish()
        return self._command.output.text()

    def wait(self, timeout: float = 10.0) -> int:
        """Waits for its end and returns its exit code.

        Arguments:
            timeout: seconds.

        Raises:
            TimeoutError: it still runs then.
        """
        if not self._command.wait(timeout):
            raise TimeoutError(f"guest {self.name!r} still runs after {timeout:g} s{self._command.last_words()}")
        code = self.code
        assert code is not None
        return code

    def wait_output(self, text: str, timeout: float = 10.0) -> str:
        """Waits until it has printed ``text`` and returns its output.

        Arguments:
            text: what its output must contain.
            timeout: seconds.

        Raises:
            TimeoutError: it has not printed it by then.
            VnetError: it ended without it.
        """
        return wait_output(f"guest {self.name!r}", self._command, text, timeout)

    def stop(self) -> int:
        """Ends it, and all that it has started, with SIGTERM, and after two seconds with SIGKILL.  Returns its code."""
        self._command.stop()
        code = self.code
        assert code is not None
        return code


class StartGuest:
    """Starts guests of one LAN: what the ``guest`` fixture is."""

    def __init__(self, lan: Lan, *, directory: Path, watch: Watch) -> None:
        self._lan = lan
        self._directory = directory
        self._watch = watch

    def __call__(
        self,
        name: str,
        command: str | Sequence[str],
        address: str | Sequence[str] | None = None,
        *,
        network: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        attach: bool = True,
        timeout: float = 10.0,
    ) -> Guest:
        """Starts a program with a NIC kept for it, and returns when it holds the NIC.

        It finds LAN and NIC in ``VNET_LAN`` and ``VNET_NIC``: ``vnet.attach()`` without arguments is enough.
        ``python3`` is the interpreter that runs the tests.

        Arguments:
            name: its NIC's name, unique on the LAN.
            command: a line for the shell, or a list of words.
            address: its NIC's address or several; ``None`` takes the next free one of each prefix.
            network: the name of its network; not needed where there is one.
            env: added to its environment.
            cwd: where it runs; the directory of the test's file if not given.
            attach: wait until it holds its NIC.
            timeout: seconds to wait.

        Raises:
            VnetError: it ended before it held its NIC, or did not in time; it is ended then.
            MachineLacks: there is no such program.
            NameTaken, AddressTaken, AddressOutside, NetworkFull, LanFull, LanClosed: as of :meth:`vnet.Lan.attach`.
        """
        lan = self._lan
        if lan.name is None:
            raise VnetError("guests find only a LAN that has a name: @pytest.mark.lan(named=True)")
        info = lan.reserve(name, address, network=network)
        process = Command(
            command,
            environment={**command_environment(), **(env or {}), "VNET_LAN": lan.name, "VNET_NIC": name},
            directory=Path(cwd) if cwd is not None else self._directory,
            guard=lan,
            merged=True,
        )
        guest = Guest(name, info.addresses, process)
        self._watch.undo(process.stop)
        self._watch.tells(lambda: (f"vnet guest {name}", _last_words(process)))
        if attach:
            self._wait_attached(guest, process, timeout)
        return guest

    def _wait_attached(self, guest: Guest, process: Command, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        # It may have come and gone between two looks.
        while not self._lan.attachments(guest.name):
            code = guest.code
            if code is None and time.monotonic() < deadline:
                self._lan.wait_attached(guest.name, 0.02)
                continue
            if self._lan.attachments(guest.name):
                return
            what = (
                f"did not attach within {timeout:g} s" if code is None else f"{describe_end(code)} before it attached"
            )
            process.stop()
            raise (VnetError if process.found else MachineLacks)(
                f"guest {guest.name!r} ({shown(process.command)}) {what}{process.last_words()}"
            )


def wait_output(who: str, command: Command, text: str, timeout: float) -> str:
    """Waits until a command has printed ``text`` and returns its output; errors as of :meth:`Guest.wait_output`."""
    deadline = time.monotonic() + timeout
    while True:
        # Whether it has ended is asked first: what it printed before its end is then in its output.
        ended = command.code
        if ended is not None:
            command.output.finish()
        output = command.output.text()
        if text in output:
            return output
        if ended is not None:
            raise VnetError(f"{who} {describe_end(ended)} without {text!r}{command.last_words()}")
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{who} has no {text!r} after {timeout:g} s{command.last_words()}")
        time.sleep(0.005)


def _last_words(command: Command) -> str:
    code = command.code
    state = "it runs" if code is None else f"it {describe_end(code)}"
    lines = command.output.text().splitlines()
    return "\n".join([f"{shown(command.command)}: {state}", *lines[-40:]])
