"""Tells scapy of NICs, if and when scapy is there.

Neither ``import vnet`` nor attaching imports scapy: that takes most of a second.  A NIC that is attached while scapy is
loaded becomes an interface at once; without scapy, NICs are noted, and an import hook waits for ``scapy.sendrecv``,
which every way of sending and sniffing goes through.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import itertools
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nic import Nic

_AWAITED = "scapy.sendrecv"
# Imports the former at its head, and is needed whole: where it came first, it is this one that is waited for.
_IMPORTER = "scapy.ansmachine"


def announce(nic: Nic) -> None:
    """Makes ``nic`` an interface of scapy, now or as soon as scapy is imported."""
    _hook().announce(nic)


class _Hook(importlib.abc.MetaPathFinder):
    """Notes NICs until scapy comes, and has them registered when it does."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._order = itertools.count()
        # In the order in which they came, since of two of one name the later wins.
        self._waiting: weakref.WeakValueDictionary[int, Nic] = weakref.WeakValueDictionary()
        self._watching = False
        # The awaited module is there, and the one that imports it is about to be.
        self._owed = False

    def announce(self, nic: Nic) -> None:
        with self._lock:
            self._waiting[next(self._order)] = nic
            module = sys.modules.get(_AWAITED)
            if module is None and not self._watching:
                sys.meta_path.insert(0, self)
                self._watching = True
            loading = module is None or _is_loading(_AWAITED) or _is_loading(_IMPORTER)
            if self._watching and loading:
                # Whoever imports scapy will see to it; to wait for it here could be to wait for each other.
                return
        self._introduce()

    def _introduce(self) -> None:
        """Registers the NICs that wait.  Scapy without NICs is better than no scapy, so trouble is a warning."""
        try:
            # Outside the lock: another thread may be importing scapy, and wait for the lock.
            from . import scapy_interface

            with self._lock:
                nics = list(self._waiting.values())
                self._waiting.clear()
                scapy_interface.register(nics)
        except Exception as error:
            warnings.warn(f"vnet: NICs are no interfaces of scapy: {error}", RuntimeWarning, stacklevel=2)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in (_AWAITED, _IMPORTER):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: importlib.abc.Loader) -> None:
        """Has the NICs registered once ``loader`` has run the module."""
        execute = loader.exec_module

        def execute_and_introduce(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if module.__name__ == _AWAITED:
                self._owed = _is_loading(_IMPORTER)
            if self._owed == (module.__name__ == _AWAITED):
                # Too early, or the awaited module was there before.
                return
            self._owed = False
            self._introduce()
            with self._lock:
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                self._watching = False
            # Those that came meanwhile.
            self._introduce()

        loader.exec_module = execute_and_introduce  # type: ignore[method-assign]


def _is_loading(name: str) -> bool:
    """Whether somebody is importing the module at this moment."""
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


@functools.cache
def _hook() -> _Hook:
    return _Hook()
