"""The kill test of what guests share: regions, pipes, work queues and calls. Guests die; nobody else may notice.

Run it by hand with ``python -m tests.killing.sharing --kills 1000 --seed 1``.

Guests are processes on one LAN whose base is the program itself. Each kind of sharing has those who send and those who
receive (``streams.py``, ``messages.py``, ``items.py``, ``calling.py``), and regions have those who do both
(``memory.py``). What is sent says by itself where it belongs, so a receiver can tell whether anything is missing,
doubled, damaged or out of order. What senders saw taken and what receivers got is kept in a file that all map
(``ledger.py``), because the dead cannot be asked; so is what each guest is doing, because ``controller.py`` kills not
only at random moments but in the middle of each thing that can be done.
"""
