"""Makes ICC profiles for colours that numbers describe: CICP (AVIF, HEIC, PNG), and PNG's gAMA and cHRM.

ITU-T H.273 numbers primaries and transfer functions. This module interprets them as Chromium does, since people view
such files in browsers: it treats television's curves as sRGB's, and compresses what is brighter than white (PQ, HLG).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x and y of white, red, green, blue
Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}

_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))

#: Diffuse white, and the brightest light that is distinguished, in candela per square metre (ITU-R BT.2408).
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
#: How Chromium 150 shows highlights, as measured: multiples of diffuse white, and of the screen's white. Between the
#: points the curve is a line in logarithms.
_SHOWN = ((1.0, 0.5), (1.158, 0.565), (1.80, 0.716), (2.79, 0.847), (4.31, 0.965), (_PEAK_NITS / _WHITE_NITS, 1.0))
#: libpng considers two gammas equal if they differ by less.
_SAME_GAMMA = 0.05
#: The steps of a curve in a profile, of 16 bits each.
_STEPS = 4096


def _srgb(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def _smpte_240(signal: float) -> float:
    return signal / 4 if signal < 0.0913 else ((signal + 0.1115) / 1.1115) ** (1 / 0.45)


def _shown(whites: float) -> float:
    if whites <= _SHOWN[0][0]:
        return whites * _SHOWN[0][1]
    for (below, dark), (above, bright) in pairwise(_SHOWN):
        if whites <= above:
            return float(dark * (bright / dark) ** (math.log(whites / below) / math.log(above / below)))
    return 1.0


def _pq(signal: float) -> float:
    root = signal ** (32 / 2523)
    nits = 10_000 * (max(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16_384 / 2610)
    return _shown(nits / _WHITE_NITS)


def _hlg(signal: float) -> float:
    scene = signal**2 / 3 if signal <= 0.5 else (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return _shown(_PEAK_NITS * scene**1.2 / _WHITE_NITS)


def _power(gamma: float) -> Callable[[float], float]:
    return lambda signal: float(signal**gamma)


#: sRGB's curve, and television's, which count as sRGB's.
_SRGB_TRANSFERS = (1, 6, 13, 14, 15)
_TRANSFERS: dict[int, Callable[[float], float]] = {
    4: _power(2.2),
    5: _power(2.8),
    7: _smpte_240,
    8: _power(1.0),
    16: _pq,
    17: lambda signal: min(float(52.37 / 48 * signal**2.6), 1.0),
    18: _hlg,
}


def are_known(primaries: int, transfer: int) -> bool:
    return primaries in _PRIMARIES and (transfer in _TRANSFERS or transfer in _SRGB_TRANSFERS)


@lru_cache(maxsize=8)
def profile_of_numbers(primaries: int, transfer: int) -> bytes | None:
    """An ICC profile of H.273's ``primaries`` and ``transfer``; None if they mean sRGB, or are undefined."""
    if _PRIMARIES.get(primaries, _PRIMARIES[1]) == _PRIMARIES[1] and transfer not in _TRANSFERS:
        return None
    return _profile(_PRIMARIES.get(primaries, _PRIMARIES[1]), _TRANSFERS.get(transfer, _srgb))


@lru_cache(maxsize=8)
def profile_of_png(gamma: bytes, chromaticities: bytes | None) -> bytes | None:
    """An ICC profile from the contents of PNG's chunks ``gAMA`` and ``cHRM``; None if they mean sRGB, or are invalid.

    Many encoders write sRGB's gamma, or nearly that: without chromaticities, it means sRGB.
    """
    encoding = int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 else 0
    if encoding == 0 or (chromaticities is None and abs(encoding * 2.2 - 1) < _SAME_GAMMA):
        return None
    primaries = _PRIMARIES[1]
    if chromaticities is not None and len(chromaticities) == 32:
        found = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        primaries = (found[0], found[1], found[2], found[3], found[4], found[5], found[6], found[7])
    return _profile(primaries, _power(1 / encoding))


def _profile(chromaticities: Chromaticities, curve: Callable[[float], float]) -> bytes | None:
    """A display profile of a matrix and a curve (ICC.1:2001-04, 6.3.1.2); None for impossible chromaticities."""
    try:
        columns = tuple(zip(*_to_d50(chromaticities), strict=True))
        xyz = [b"XYZ " + struct.pack(">4x3i", *(round(value * 65_536) for value in column)) for column in columns]
    except (ZeroDivisionError, struct.error):
        return None
    steps = [round(65_535 * min(max(curve(step / (_STEPS - 1)), 0), 1)) for step in range(_STEPS)]
    white = b"XYZ " + struct.pack(">4x3i", *(round(value * 65_536) for value in _D50))
    text = b"desc" + struct.pack(">4xI", 2) + b"-\0" + bytes(78)
    bodies = [text, white, *xyz, b"curv" + struct.pack(f">4xI{_STEPS}H", _STEPS, *steps)]
    names = [b"desc", b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"]
    start, table, body = 128 + 4 + 12 * len(names), struct.pack(">I", len(names)), b""
    for index, name in enumerate(names):
        if index < len(bodies):
            place = start + len(body), len(bodies[index])
            body += bodies[index] + bytes(-len(bodies[index]) % 4)
        table += name + struct.pack(">II", *place)  # the last two share the first curve
    head = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + white[8:]
    return head.ljust(128, b"\0") + table + body


def _to_d50(chromaticities: Chromaticities) -> Matrix:
    """The matrix from linear red, green and blue to XYZ under D50; other whites are adapted to D50 (Bradford)."""
    white_x, white_y, *others = chromaticities
    white = _xyz(white_x, white_y)
    corners = _transposed((_xyz(*others[0:2]), _xyz(*others[2:4]), _xyz(*others[4:6])))
    scale = _apply(_inverse(corners), white)
    to_xyz = _times(corners, _diagonal(scale))
    here, there = _apply(_BRADFORD, white), _apply(_BRADFORD, _D50)
    gains = (there[0] / here[0], there[1] / here[1], there[2] / here[2])
    return _times(_inverse(_BRADFORD), _times(_diagonal(gains), _times(_BRADFORD, to_xyz)))


def _xyz(x: float, y: float) -> Row:
    """XYZ of a chromaticity, with a sum of 1; the comparison with the white scales it."""
    return x, y, 1 - x - y


def _diagonal(values: Row) -> Matrix:
    return (values[0], 0.0, 0.0), (0.0, values[1], 0.0), (0.0, 0.0, values[2])


def _apply(matrix: Matrix, vector: Row) -> Row:
    first, second, third = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return first, second, third


def _transposed(matrix: Matrix) -> Matrix:
    first, second, third = zip(*matrix, strict=True)
    return first, second, third


def _times(left: Matrix, right: Matrix) -> Matrix:
    first, second, third = (_apply(left, column) for column in _transposed(right))
    return _transposed((first, second, third))


def _inverse(matrix: Matrix) -> Matrix:
    """Raises ``ZeroDivisionError`` if the matrix has no inverse."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return (
        ((e * i - f * h) / determinant, (c * h - b * i) / determinant, (b * f - c * e) / determinant),
        ((f * g - d * i) / determinant, (a * i - c * g) / determinant, (c * d - a * f) / determinant),
        ((d * h - e * g) / determinant, (b * g - a * h) / determinant, (a * e - b * d) / determinant),
    )
