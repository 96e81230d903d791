"""What a LAN has out of images, and what it keeps in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vnet import _native

if TYPE_CHECKING:
    from .cache import Obtained
    from .recipe import Recipe

__all__ = ["ImageUse", "Images", "LanImages"]

# A plan of fewer routers is compiled in less time than it takes to look whether it was compiled before, and takes less
# memory than the processes of a LAN do anyway: that of 700 routers takes 15 ms and 4 MiB.
_MANY_ROUTERS = 700


Images: TypeAlias = bool | Callable[[str], None]
"""Whether to use images; or that, and whom to tell in one sentence, once, why something is not kept."""


@dataclass(frozen=True)
class ImageUse:
    """How a LAN came by a part of what it routes by.

    Attributes:
        section: ``"plan"``, ``"filters"`` or ``"routes"``.
        key: what it was compiled from, 64 hexadecimal digits: the name of the image.
        label: the same in words.
        mapped: whether it lies in an image, which is shared by all who map it; if not, in memory of the LAN's own.
        built: whether it was compiled for this LAN; if not, it was found.
        why: why it had to be compiled though there was an image, or why it is not in an image; empty otherwise.
        seconds: what it took, compiling included.
    """

    section: str
    key: str
    label: str
    mapped: bool
    built: bool
    why: str
    seconds: float


class LanImages:
    """The images of one LAN.

    Arguments:
        base: the native base.
        wanted: whether to use any, and whom to tell of trouble; a warning is told of it where nobody is.

    Attributes:
        private: whether no other process has the LAN's memory.  To one that has it, a section would be empty that comes
            to lie in an image later.
    """

    def __init__(self, base: _native.Base, wanted: Images) -> None:
        self.private = True
        self._base = base
        self._wanted = wanted is not False
        self._complain = wanted if callable(wanted) else _warn
        self._uses: dict[str, ImageUse] = {}
        self._planned = False
        self._complained = False

    @property
    def uses(self) -> tuple[ImageUse, ...]:
        """How the LAN came by what it routes by, as far as images were wanted for it."""
        return tuple(self._uses.values())

    def may_use(self, section: str) -> bool:
        """Whether a section may lie in an image: it has lain in none before, and nobody else has the LAN."""
        if not self._wanted or not self.private:
            return False
        from .place import switched_off

        return not switched_off() and all(name != section for name, _ in self._base.segment().images())

    def plan(self, routers: list[Any], ports: list[Any], classes: list[Any], hash_ports: bool) -> bool:
        """Has the LAN go by a plan that is kept in an image; arguments and errors as of ``Base.set_plan``.

        Returns:
            Whether that was done.  If not, the plan is too small for it, or not the first one.
        """
        if self._planned or len(routers) < _MANY_ROUTERS or not self.may_use("plan"):
            return False
        from .recipe import Recipe

        self._planned = True
        draft = _native.PlanDraft(routers, ports, classes, hash_ports)
        recipe = Recipe(f"plan of {len(routers):,} routers and {len(ports):,} ports").add("plan", draft.form())

        def build() -> Callable[[int], object]:
            words = draft.compile()
            return lambda fd: _native.image_write(fd, recipe.key, recipe.label, [("plan", words)])

        self.use("plan", recipe, build, draft.adopt, lambda: draft.publish(self._base))
        return True

    def use(
        self,
        section: str,
        recipe: Recipe,
        build: Callable[[], Callable[[int], object]],
        adopt: Callable[[_native.Base, int, int, int], None],
        publish: Callable[[], None],
    ) -> None:
        """Has a section lie in the image of ``recipe``; where there is none, has it lie in the LAN's own memory.

        Arguments:
            section: its name.
            recipe: what it is compiled from.
            build: compiles it and returns what writes the image; as of :meth:`Cache.obtain`.
            adopt: has the LAN go by the image: base, descriptor, first byte and words of the section.
            publish: has the LAN go by what was compiled, which lies in no image.
        """
        from vnet.errors import VnetError

        from .cache import Cache

        began = time.perf_counter()
        with Cache().obtain(recipe, build) as came:
            why, mapped = came.trouble or came.unfit, False
            if came.fd >= 0:
                at, words = next((at, words) for kind, at, words in came.sections if kind == section)
                try:
                    adopt(self._base, came.fd, at, words)
                    mapped = True
                except (VnetError, OSError) as error:
                    # A file system that maps no files, for one.
                    came.trouble = why = f"the image cannot be mapped: {error}"
            if not mapped:
                publish()
            self._note(section, came, mapped, why, time.perf_counter() - began)

    def _note(self, section: str, came: Obtained, mapped: bool, why: str, seconds: float) -> None:
        recipe = came.recipe
        self._uses[section] = ImageUse(section, recipe.key.hex(), recipe.label, mapped, came.built, why, seconds)
        if came.trouble and not self._complained:
            self._complained = True
            self._complain(f"what was compiled ({recipe.label}) is not kept for the next time: {came.trouble}")


def _warn(sentence: str) -> None:
    import warnings

    warnings.warn(f"vnet: {sentence}", RuntimeWarning, stacklevel=2)
