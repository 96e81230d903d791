"""Types that the lab tests share."""

from __future__ import annotations

from collections.abc import Callable

from vnet.lab.plan import Lab

ReadLab = Callable[..., Lab]
"""Reads a lab from text: the ``read`` fixture."""
