"""Quantities and comparisons of the lab language."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnet.lab.units import Dimension, parse, parse_comparison, show

NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}


@given(
    st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(sorted(NANOSECONDS)), st.sampled_from(["", " ", "  "])
)
def test_a_duration_is_what_exact_arithmetic_says(whole: int, thousandths: int, unit: str, gap: str) -> None:
    exact = (Fraction(whole) + Fraction(thousandths, 1000)) * NANOSECONDS[unit] / 10**9
    assert math.isclose(parse(f"{whole}.{thousandths:03}{gap}{unit}", Dimension.DURATION), float(exact), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("0.1%", Dimension.FRACTION, 0.001),
        (0, Dimension.FRACTION, 0.0),
        ("1 Mbit/s", Dimension.RATE, 1e6),
        ("100mbit", Dimension.RATE, 1e8),
        ("2.5 Gbit/s", Dimension.RATE, 2.5e9),
        ("64KiB", Dimension.SIZE, 65536),
        (4096, Dimension.SIZE, 4096),
        ("5", Dimension.COUNT, 5),
        ("1e3", Dimension.COUNT, 1000),
    ],
)
def test_each_dimension_has_one_unit_inside(text: object, dimension: Dimension, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-12)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_anything_is_a_quantity_or_a_value_error(said: object) -> None:
    for dimension in Dimension:
        try:
            value = parse_comparison(said, dimension).value
        except ValueError:
            continue
        assert 0 <= value < math.inf


@given(st.sampled_from(["<", "<=", ">", ">=", "==", "=", "!=", ""]), st.integers(0, 50), st.integers(0, 50))
def test_a_comparison_is_python_s(sign: str, limit: int, found: int) -> None:
    python = {"": "==", "=": "=="}.get(sign, sign)
    assert parse_comparison(f"{sign} {limit}", Dimension.COUNT).holds(found) is eval(f"{found} {python} {limit}")


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_nothing_holds_of_what_was_not_measured(sign: str) -> None:
    assert not parse_comparison(f"{sign} 30ms", Dimension.DURATION).holds(math.nan)


def test_a_counted_share_equals_the_written_percentage() -> None:
    assert parse_comparison("0.1%", Dimension.FRACTION).holds(1 - 999 / 1000)


@given(st.floats(1e-9, 1e5))
def test_a_shown_duration_reads_back_within_its_digits(seconds: float) -> None:
    assert math.isclose(parse(show(seconds, Dimension.DURATION), Dimension.DURATION), seconds, rel_tol=0.006)
