"""Filters: what may pass a NIC or enter a network.

A filter is a list of rules; the first that matches a datagram says whether it may pass, and where none does, the
filter's default.  The way of a filter through this package::

    reading.py    what users write  →  model.py: frozen rules; each mistake with its place
    compiling.py  rules and names   →  words that senders read (``base/src/filter/words.rs`` draws them)
    keeping.py    the filters of one LAN: numbers, rows, who has which

Rules know nothing but the datagram: no connection, no time, no rule before.  They run in ``forward()``, in whoever
sends.
"""

from vnet.filtering.compiling import check_filter, compile_filter
from vnet.filtering.model import Action, AttachedFilter, Filter, Rule, Table
from vnet.filtering.reading import RuleError, read_filter

__all__ = [
    "Action",
    "AttachedFilter",
    "Filter",
    "Rule",
    "RuleError",
    "Table",
    "check_filter",
    "compile_filter",
    "read_filter",
]
