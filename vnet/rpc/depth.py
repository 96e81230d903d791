"""How deep a message is nested, found before anything is made of it.

msgspec refuses what is deeper than the interpreter's own stack; a service may want less than that.  Only types that set
no bound themselves (``Any``, structures that hold themselves) need the look.
"""

from __future__ import annotations

__all__ = ["too_deep"]

# The first byte of a value, as MessagePack's specification lists them: how many bytes of length stand behind it,
# how many bytes of its own follow these, and for arrays and maps how many values stand for each element.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4}
_FIXED |= {0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_SIZED |= {0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_HOLDING = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_OPENING = bytes([*range(0x80, 0xA0), *_HOLDING])


def too_deep(data: bytes | bytearray | memoryview, limit: int) -> bool:
    """Whether arrays and maps are nested more than ``limit`` deep in a MessagePack value.

    Data that is cut off or malformed is for the decoder to refuse; of that, only what stands before the flaw counts.
    """
    data = bytes(data)
    # Each level costs a byte that opens it, so most messages need no second look.
    if len(data) - len(data.translate(None, _OPENING)) <= limit:
        return False
    # How many values are still to come at each open level.
    left: list[int] = []
    at, end = 0, len(data)
    while at < end:
        first = data[at]
        at += 1
        count = 0
        if first < 0x80 or first >= 0xE0:
            pass
        elif first < 0x90:
            count = 2 * (first & 15)
        elif first < 0xA0:
            count = first & 15
        elif first < 0xC0:
            at += first & 31
        elif first in _FIXED:
            at += _FIXED[first]
        elif first in _SIZED:
            width, more = _SIZED[first]
            at += width + more + int.from_bytes(data[at : at + width], "big")
        elif first in _HOLDING:
            width, each = _HOLDING[first]
            count = each * int.from_bytes(data[at : at + width], "big")
            at += width
        else:
            return False
        opens = 0x80 <= first < 0xA0 or first in _HOLDING
        if left:
            left[-1] -= 1
        if opens and len(left) + 1 > limit:
            return True
        if count:
            left.append(count)
        while left and left[-1] == 0:
            left.pop()
        if not left:
            return False
    return False
