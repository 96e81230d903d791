"""The kill test: guests are killed at random moments under load, and nobody else may notice.

Run it by hand with ``python -m tests.killing --kills 2000 --seed 1``.

Senders and receivers are processes on one LAN whose base is the program itself.  Each datagram says who sent it and
how many datagrams the sender had seen delivered to this receiver's address before; so a receiver can tell by itself
whether one is missing, doubled, damaged or out of order (see ``guests.py``).  What senders saw delivered and what
receivers got is kept in a file that all map (``ledger.py``), because the dead cannot be asked.  ``controller.py``
kills, and holds the one against the other.
"""
