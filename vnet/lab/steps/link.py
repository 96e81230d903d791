"""``link``: cut a link, mend it, or give it another weight."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vnet.lab.plan import Link
from vnet.lab.schema import LinkStepFile
from vnet.lab.steps.base import Outcome, Stage, Step, StepContext
from vnet.lab.tree import did_you_mean
from vnet.lab.units import Dimension, show

__all__ = ["LinkStep", "change_links", "find_links", "plan"]


@dataclass(frozen=True)
class LinkStep(Step):
    """``links``, by name, are cut, mended, or get ``weight``."""

    kind: ClassVar[str] = "link"

    links: tuple[str, ...]
    change: str
    weight: int | None

    def title(self) -> str:
        what = f"weigh {self.weight}" if self.weight is not None else self.change
        return f"{what} {', '.join(self.links)}"

    def run(self, stage: Stage) -> Outcome:
        clock = time.perf_counter()
        change_links(stage.lan, self.links, self.change, self.weight)
        took = show(time.perf_counter() - clock, Dimension.DURATION)
        return Outcome(f"new paths in {took}", {})


def change_links(lan: Any, names: tuple[str, ...], change: str, weight: int | None) -> None:
    """``cut`` or ``mend`` links of a LAN, or give them a weight; new paths hold when this returns."""
    with lan.routing.batch():
        for name in names:
            link = lan.links[name]
            if change == "cut":
                link.cut()
            elif change == "mend":
                link.mend()
            else:
                link.weight = weight


def find_links(links: Mapping[str, Link], routers: Mapping[str, object], which: list[str] | str) -> tuple[str, ...]:
    """The links that are meant by a name, or by two routers, which may be several.

    Raises:
        ValueError: there is none; the message is one sentence.
    """
    if isinstance(which, str):
        if which in links:
            return (which,)
        known = ", ".join(list(links)[:8]) + (", ..." if len(links) > 8 else "")
        if not links:
            raise ValueError(f"no link is called {which!r}: the lab has none")
        raise ValueError(f"no link is called {which!r}{did_you_mean(which, links)}; the links are {known}")
    one, other = which
    found = tuple(name for name, link in links.items() if set(link.ends) == {one, other} and one != other)
    if found:
        return found
    for name in which:
        if name not in routers:
            raise ValueError(f"no router is called {name!r}{did_you_mean(name, routers)}")
    near = sorted({end for link in links.values() if one in link.ends for end in link.ends if end != one})
    ends = f"{one!r} has links to {', '.join(near[:8])}" if near else f"{one!r} has no links"
    raise ValueError(f"there is no link between {one!r} and {other!r}; {ends}")


def plan(said: LinkStepFile, context: StepContext) -> LinkStep:
    """Find the links that a link step means.

    Raises:
        LabError: there is none.
    """
    body = said.link
    change = "cut" if body.cut is not None else "mend" if body.mend is not None else "of"
    which = getattr(body, change)
    routers = {name: node for name, node in context.nodes.items() if node.kind == "router"}
    try:
        found = find_links(context.links, routers, which)
    except ValueError as error:
        raise context.error(str(error), change) from None
    return LinkStep(
        name=said.name or "",
        line=context.line,
        expectations=(),
        timeout=said.timeout,
        links=found,
        change=change,
        weight=body.weight,
    )
