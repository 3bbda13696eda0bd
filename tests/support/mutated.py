"""Files that were damaged at random, from a seed: what comes from strangers is not always broken where one expects."""

from __future__ import annotations

import random

#: Numbers that decoders are known to trip over, in the sizes that headers have.
_EXTREMES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\0\0\0\0",
    b"\xff" * 4,
    b"\x7f" + b"\xff" * 3,
)
#: Most of what a format can say wrong is said in its first bytes.
_HEADER_BYTES = 400


def mutated(data: bytes, seed: int) -> bytes:
    """One to four changes: bits, extreme numbers, pieces removed, doubled, moved or overwritten with others."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        within = min(len(changed), _HEADER_BYTES) if chance.random() < 0.7 else len(changed)
        at = chance.randrange(max(within, 1))
        length = chance.choice((1, 2, 4, 16, 64, 500))
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes((changed[at] ^ 1 << chance.randrange(8),))
            case 1:
                number = chance.choice(_EXTREMES)
                changed[at : at + len(number)] = number
            case 2:
                changed[at : at + 1] = bytes((chance.randrange(256),))
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                where = chance.randrange(len(changed))
                changed[at : at + length] = changed[where : where + length]
        if not changed:
            break
    return bytes(changed)
