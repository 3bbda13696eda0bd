"""ICC profiles made from scratch, so that tests know what each colour must become.

Version 2 profiles as in ICC.1:2001-04: a header, a table of tags, the tags.
"""

from __future__ import annotations

import struct

D50 = (0.9642, 1.0, 0.8249)
#: Primaries, adapted to D50: one column each.
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82491))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB_FROM_XYZ = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    description = b"made for tests\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(description)) + description + bytes(78),
        b"cprt": b"text\0\0\0\0public domain\0",
        b"wtpt": _xyz(*D50),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + kind + space + connection
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + _fixed(*D50)
    return header.ljust(128, b"\0") + table + body


def rgb_profile(columns: tuple[tuple[float, float, float], ...] = P3, gamma: float = 1.8) -> bytes:
    red, green, blue = columns
    curve = _gamma(gamma)
    return _profile(
        b"mntr",
        b"RGB ",
        b"XYZ ",
        {
            b"rXYZ": _xyz(*red),
            b"gXYZ": _xyz(*green),
            b"bXYZ": _xyz(*blue),
            b"rTRC": curve,
            b"gTRC": curve,
            b"bTRC": curve,
        },
    )


def grey_profile(gamma: float = 1.0) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


#: L*, a*, b* of each full ink and of paper, roughly those of coated paper; what overprints is darker.
PAPER = (100.0, 0.0, 0.0)
INKS = {"C": (56, -37, -50), "M": (48, 74, -3), "Y": (89, -5, 93), "K": (16, 0, 0)}


def cmyk_lab(cyan: int, magenta: int, yellow: int, black: int) -> tuple[float, float, float]:
    """L*, a*, b* of a corner of the ink cube (each ink 0 or 1), in the test profile."""
    lightness, a, b = PAPER
    for name, ink in zip("CMYK", (cyan, magenta, yellow, black), strict=True):
        if ink:
            lightness *= INKS[name][0] / PAPER[0]
            a, b = (a + INKS[name][1], b + INKS[name][2]) if name != "K" else (a * 0.1, b * 0.1)
    return lightness, max(-128.0, min(127.0, a)), max(-128.0, min(127.0, b))


def cmyk_profile() -> bytes:
    """A printing profile: the 16 corners of the ink cube, and straight lines between them."""
    identity = bytes(range(256))
    grid = b""
    for index in range(16):  # the first ink changes slowest
        lightness, a, b = cmyk_lab(*(index >> shift & 1 for shift in (3, 2, 1, 0)))
        grid += bytes((round(lightness * 2.55), round(a) + 128, round(b) + 128))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4 + grid + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def srgb_of_xyz(x: float, y: float, z: float) -> tuple[int, ...]:
    """What a colour under D50 is in sRGB, cut off at the edge of the gamut."""
    samples = []
    for row in SRGB_FROM_XYZ:
        linear = min(max(row[0] * x + row[1] * y + row[2] * z, 0.0), 1.0)
        shown = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
        samples.append(round(shown * 255))
    return tuple(samples)


def srgb_of_lab(lightness: float, a: float, b: float) -> tuple[int, ...]:
    fy = (lightness + 16) / 116
    fractions = (fy + a / 500, fy, fy - b / 200)
    x, y, z = (f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29) for f in fractions)
    return srgb_of_xyz(x * D50[0], y * D50[1], z * D50[2])


def srgb_of_rgb(colour: tuple[int, int, int], gamma: float = 1.8) -> tuple[int, ...]:
    """What a colour of ``rgb_profile(P3, gamma)`` is in sRGB."""
    linear = [(sample / 255) ** gamma for sample in colour]
    return srgb_of_xyz(*(sum(P3[column][row] * linear[column] for column in range(3)) for row in range(3)))
