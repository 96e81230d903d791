"""Networks joined by routers: what they are, who knows which way, and how that gets to the base.

::

    api.py          what vnet.Lan offers: router(), link(), topology(), routing
    routers.py      Router  ─┐ what users hold
    links.py        Link    ─┘
    manager.py      Routing: changes the model, and has the base go by it: plan, route table, gateways
    model.py        routers, ports, wires, prefixes, as plain objects with numbers that stay
    compiling.py    the model as numbers in tuples, as the base takes it
    gateways.py     which NIC leads a guest out of its network
    spaces.py       whose every prefix is; addresses for links
    kernels.py      routes of guests that forward with Linux's own stack
    loops.py        static routes that lead in a circle
    topology.py     the LAN as a graph of networkx
    shortest.py     shortest paths, for what Python itself has to know of them
    graphs.py       routers and links out of a GML or GraphML file ─┐ as a Layout (layout.py),
    generate.py     fat trees, grids, random graphs                ─┘ which building.py puts on a LAN

Only what is small is imported with :mod:`vnet`; networkx comes in where it is used.
"""

from __future__ import annotations
