"""Linux network namespaces as guests, and interfaces in namespaces that others made.

The base makes none of them itself: it would have to change its own namespace, or become another user's root, in a
process with threads.  It keeps a helper, the *nursery*, started when the first is needed, which hands over descriptors:

::

    base (Lan)                                    nursery (one for each LAN that needs it)
      client.py     ── what is wanted ──────▶       nursery.py     does it, or has a child do it that ends then:
                                                      devices.py     joins the user namespace, makes the network
                                                                     namespace and the TAP device in it
                                                      links.py       gives that MTU, addresses and routes (pyroute2)
      guests.py     ◀── namespace, TAP ──────
      worker        reads and writes the TAP

A namespace lives by the descriptor that the base has of it, a TAP by those that worker and nursery have: the kernel
takes both away when the processes end, however they do.  The nursery ends with its connection to the base.

Without root, the children make their namespaces in a user namespace in which they are root (``user_namespaces(7)``) and
outside of which they are the user.
"""

from __future__ import annotations

from .guests import Netns, Plug

__all__ = ["Netns", "Plug"]
