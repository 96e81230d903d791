"""Quantities as a lab file writes them: ``500ms``, ``0.1%``, ``1 Mbit/s``, ``64KiB``; comparisons such as ``"< 30ms"``.

Each is kept in the one unit of its dimension: seconds, a fraction from 0 to 1, bits a second, bytes, or a plain count.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

__all__ = ["Comparison", "Dimension", "parse", "parse_comparison", "show", "show_beside", "shown"]

DURATIONS: Mapping[str, float] = MappingProxyType(
    {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
)
RATES: Mapping[str, float] = MappingProxyType(
    {
        prefix + unit: factor
        for prefix, factor in {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e6, "g": 1e9, "K": 1e3}.items()
        for unit in ("bit/s", "bit", "bps")
    }
)
SIZES: Mapping[str, float] = MappingProxyType(
    {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
)


class Dimension(Enum):
    """What a quantity measures; the value says what a lab file is expected to hold."""

    COUNT = "a number such as 5"
    DURATION = "a duration such as 500ms or 2s"
    FRACTION = "a percentage such as 0%"
    RATE = "a rate such as 1 Mbit/s"
    SIZE = "a size such as 64KiB"

    @property
    def units(self) -> Mapping[str, float]:
        return _UNITS[self]


_UNITS: Mapping[Dimension, Mapping[str, float]] = MappingProxyType(
    {
        Dimension.COUNT: {"": 1},
        Dimension.DURATION: DURATIONS,
        Dimension.FRACTION: {"%": 0.01},
        Dimension.RATE: RATES,
        Dimension.SIZE: {"": 1, **SIZES},
    }
)

_CANONICAL: Mapping[str, str] = MappingProxyType(
    {"us": "µs"}
    | {unit: f"{unit[0].upper().replace('K', 'k')}bit/s" for unit in RATES if unit[0] in "kKmMgG"}
    | {"bit": "bit/s", "bps": "bit/s"}
)
"""Units that have several spellings, and the one that vnet writes."""

_QUANTITY = re.compile(r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\d\s.+-].*)?")
_COMPARISON = re.compile(r"(?P<sign><=|>=|==|!=|<|>|=)?\s*(?P<quantity>.*)", re.DOTALL)
_SIGNS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
        "!=": operator.ne,
    }
)


def parse(said: object, dimension: Dimension) -> float:
    """Read one quantity.

    Args:
        said: what the lab file holds: text with a unit, or a number where the dimension needs no unit (0 never does).
        dimension: what it measures.

    Returns:
        The quantity in the dimension's unit: seconds, a fraction, bits a second, bytes, or a count.

    Raises:
        ValueError: it is not such a quantity; the message is one sentence that says what was expected.
    """
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        raise ValueError(f"expected {dimension.value}, found {shown(said)}")
    match = _QUANTITY.fullmatch(str(said).strip())
    if match is None:
        raise ValueError(f"expected {dimension.value}, found {shown(said)}")
    number, unit = float(match["number"]), (match["unit"] or "").strip()
    if not math.isfinite(number):
        raise ValueError(f"expected {dimension.value}, found {shown(said)}, which is too large")
    units = dimension.units
    if unit not in units:
        if not unit and number == 0:
            return 0.0
        if not unit:
            raise ValueError(f"{shown(said)} has no unit; expected {dimension.value}")
        known = ", ".join(u for u in units if u)
        what = f"known units are {known}" if known else f"expected {dimension.value}"
        raise ValueError(f"unknown unit {unit!r}; {what}")
    if number < 0:
        raise ValueError(f"expected {dimension.value}, found {shown(said)}, which is negative")
    value = number * units[unit]
    if not math.isfinite(value):
        raise ValueError(f"expected {dimension.value}, found {shown(said)}, which is too large")
    return value


@dataclass(frozen=True)
class Comparison:
    """One expectation about a quantity.

    Attributes:
        sign: ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, or ``..`` for a range.
        value: what is compared with; the lower end of a range.
        text: the expectation as vnet writes it, with the numbers of the lab file.
        high: the upper end of a range, which belongs to it.
    """

    sign: str
    value: float
    text: str
    high: float = math.inf

    def holds(self, found: float) -> bool:
        """Whether ``found`` satisfies it; nothing satisfies a comparison with "not a number"."""
        if math.isnan(found):
            return False
        if self.sign == "..":
            return _is_like(found, self.value) or _is_like(found, self.high) or self.value < found < self.high
        if self.sign in ("==", "!="):
            return _is_like(found, self.value) is (self.sign == "==")
        return _SIGNS[self.sign](found, self.value)


def _is_like(found: float, value: float) -> bool:
    # 0.1% and a counted 1 of 1000 differ in the last binary digit only.
    return math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-12)


def parse_comparison(said: object, dimension: Dimension) -> Comparison:
    """Read an expectation such as ``"< 30ms"``, ``0%``, ``5`` or ``1ms..20ms``; without a sign it means equality.

    Raises:
        ValueError: it is not one; the message is one sentence that says what was expected.
    """
    if isinstance(said, str) and ".." in said:
        return _parse_range(said.strip(), dimension)
    sign, quantity = "==", said
    if isinstance(said, str):
        match = _COMPARISON.fullmatch(said.strip())
        if match is not None:  # the pattern matches any text; the test is for the type checker
            sign, quantity = match["sign"] or "==", match["quantity"]
    value = parse(quantity, dimension)
    text = _as_written(quantity)
    return Comparison("==" if sign == "=" else sign, value, text if sign in ("==", "=") else f"{sign} {text}")


def _parse_range(said: str, dimension: Dimension) -> Comparison:
    low_text, _, high_text = (part.strip() for part in said.partition(".."))
    high = parse(high_text, dimension)
    match = _QUANTITY.fullmatch(low_text)
    if match is not None and not match["unit"]:
        # "1..20ms": the unit of the upper end is that of both.
        upper = _QUANTITY.fullmatch(high_text)
        low_text += upper["unit"] or "" if upper is not None else ""
    low = parse(low_text, dimension)
    if low > high:
        raise ValueError(f"the range {said!r} is empty; expected the lower end first")
    return Comparison("..", low, f"{_as_written(low_text)} .. {_as_written(high_text)}", high)


def _as_written(quantity: object) -> str:
    """A quantity with the lab file's number, and the unit and the space that :func:`show` would write."""
    match = _QUANTITY.fullmatch(str(quantity).strip())
    if match is None:
        return str(quantity)
    unit = (match["unit"] or "").strip()
    gap = "" if unit in ("", "%") else " "
    return f"{match['number']}{gap}{_CANONICAL.get(unit, unit)}"


def show(value: float, dimension: Dimension, digits: int = 3) -> str:
    """The quantity as people write it: ``1.2 ms``, ``0%``, ``12 Mbit/s``; ``none`` for "not a number"."""
    if math.isnan(value):
        return "none"
    if dimension is Dimension.FRACTION:
        return f"{value * 100:.{digits}g}%"
    if dimension is Dimension.DURATION:
        scale = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if value else ((1.0, "s"),)
        return _scaled(value, (*scale, (1e-9, "ns")), digits)
    if dimension is Dimension.RATE and not value:
        return "0 bit/s"
    if dimension is Dimension.RATE:
        return _scaled(value, ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")), digits)
    if dimension is Dimension.SIZE and not value:
        return "0 B"
    if dimension is Dimension.SIZE:
        return _scaled(value, ((2**20, "MiB"), (2**10, "KiB"), (1.0, "B")), digits)
    return f"{value:g}" if value != int(value) else str(int(value))


def show_beside(value: float, limit: float, dimension: Dimension) -> str:
    """The quantity with as many digits as tell it from ``limit``: "expected < 30 ms, found 30 ms" helps nobody."""
    for digits in range(3, 12):
        text = show(value, dimension, digits)
        if text != show(limit, dimension, digits):
            break
    return text


def _scaled(value: float, scale: tuple[tuple[float, str], ...], digits: int) -> str:
    factor, unit = next((step for step in scale if value >= step[0]), scale[-1] if value else scale[0])
    number = value / factor
    return f"{number:.{digits}g} {unit}" if number < 1000 or digits > 3 else f"{number:.0f} {unit}"


def shown(said: object) -> str:
    if said is None:
        return "nothing"
    if isinstance(said, str):
        return repr(said) if len(said) <= 40 else repr(said[:37] + "...")
    if isinstance(said, bool):
        return str(said).lower()
    if isinstance(said, dict):
        return "a mapping"
    if isinstance(said, (list, tuple)):
        return "a list"
    return str(said)
