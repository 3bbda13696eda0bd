"""TIFF: what its tags say is what is shown; else the tag is named. Judged by pixels that the test wrote itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from PIL import Image

from pipeline.core.errors import DamagedImage, ImageTooLarge, TruncatedImage, UnsupportedImage
from tasks.images.render import Limits, Recipe, render
from tests.support.pictures import encoded, opened, quadrants
from tests.support.tiffs import tiff

SIZE = (12, 8)
WHOLE = Recipe((12, 8), "PNG")
#: Eight bits of red, green, blue and a fourth sample, which never agree.
BANDS = [
    [20 * x for y in range(8) for x in range(12)],
    [30 * y for y in range(8) for x in range(12)],
    [7 * x + 11 * y for y in range(8) for x in range(12)],
    [255 - 2 * x - 9 * y for y in range(8) for x in range(12)],
]


def packed(samples: Sequence[int], bits: int, order: str) -> bytes:
    """The low byte of 16 bits is not what a careless reader would take for the sample."""
    if bits == 8:
        return bytes(samples)
    return struct.pack(f"{order}{len(samples)}H", *(sample << 8 | (sample ^ 0xFF) for sample in samples))


def stored(count: int, bits: int, order: str, planar: bool) -> list[bytes]:
    bands = BANDS[:count] if count != 2 else [BANDS[0], BANDS[3]]
    if planar:
        return [packed(band, bits, order) for band in bands]
    return [packed([sample for pixel in zip(*bands, strict=True) for sample in pixel], bits, order)]


def shown(data: bytes) -> Image.Image:
    return opened(render(data, WHOLE).data)


def assert_bands(image: Image.Image, expected: list[list[int]], off: int = 0) -> None:
    """``off``: how far a sample may be off, by rounding 16 bits, or what alpha was multiplied with."""
    assert len(image.getbands()) == len(expected)
    for band, wanted in zip(image.split(), expected, strict=True):
        assert max(abs(got - sample) for got, sample in zip(band.tobytes(), wanted, strict=True)) <= off


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "LA", "L"])
def test_samples_are_where_the_tags_say(
    kind: str, big: bool, deflate: bool, planar: bool, bits: int, order: str
) -> None:
    count = len(kind)
    extra = {338: (2,)} if kind.endswith("A") else {}
    data = tiff(
        SIZE,
        stored(count, bits, order, planar),
        bits=(bits,) * count,
        photometric=2 if count > 2 else 1,
        order=order,
        big=big,
        deflate=deflate,
        tags={284: (2 if planar and count > 1 else 1,)} | extra,
    )
    image = shown(data)
    assert image.mode == kind
    assert_bands(image, [BANDS[0], BANDS[3]] if kind == "LA" else BANDS[:count], off=1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_planes_of_inks_are_the_same_picture(bits: int, order: str) -> None:
    planes, pixels = (
        tiff(
            SIZE,
            stored(4, bits, order, planar),
            bits=(bits,) * 4,
            photometric=5,
            order=order,
            tags={284: (1 + planar,)},
        )
        for planar in (True, False)
    )
    assert shown(planes).tobytes() == shown(pixels).tobytes()


def test_planes_are_turned_as_the_orientation_says() -> None:
    tags = {284: (2,), 274: (6,)}
    data = tiff(SIZE, stored(3, 16, "<", True), bits=(16, 16, 16), photometric=2, tags=tags)
    plain = tiff(SIZE, stored(3, 16, "<", False), bits=(16, 16, 16), photometric=2, tags={274: (6,)})
    tall = Recipe((8, 12), "PNG")
    assert render(data, tall).data == render(plain, tall).data
    assert (render(data, tall).width, render(data, tall).height) == (8, 12)


@pytest.mark.parametrize("order", "<>")
def test_white_is_zero_in_16_bits(order: str) -> None:
    data = tiff(SIZE, stored(1, 16, order, False), bits=(16,), photometric=0, order=order)
    assert_bands(shown(data), [[255 - sample for sample in BANDS[0]]], off=1)


def test_multiplied_alpha_is_divided_out() -> None:
    half = [[100] * 96, [50] * 96, [0] * 96, [128] * 96]
    strips = [bytes(band) for band in half]
    data = tiff(SIZE, strips, bits=(8,) * 4, photometric=2, tags={284: (2,), 338: (1,)})
    assert shown(data).getpixel((5, 5)) == pytest.approx((199, 99, 0, 128), abs=1)


def test_a_colour_map_of_8_bit_values_is_scaled() -> None:
    """The specification wants 16 bits; libtiff and libvips see that these are not, and scale them."""
    colours = [*(index for index in range(256)), *(255 - index for index in range(256)), *([7] * 256)]
    indices = bytes(range(0, 96))
    data = tiff(SIZE, [indices], photometric=3, tags={320: colours})
    assert_bands(shown(data), [list(indices), [255 - index for index in indices], [7] * 96])
    right = tiff(SIZE, [indices], photometric=3, tags={320: [value * 257 for value in colours]})
    assert shown(right).tobytes() == shown(data).tobytes()


def test_colours_that_are_stored_in_blocks() -> None:
    """YCbCr without compression: four samples of luma, then two of chroma, for two by two pixels."""
    size = (8, 4)
    block = bytes((81, 81, 81, 81, 90, 240))  # red
    data = tiff(size, [block * 8], bits=(8, 8, 8), photometric=6, tags={530: (2, 2)})
    image = opened(render(data, Recipe(size, "PNG")).data)
    assert {image.getpixel((x, y)) for x in range(8) for y in range(4)} == {image.getpixel((0, 0))}
    red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize(
    ("bits", "photometric", "tags", "said"),
    [
        ((8,), 1, {339: (2,)}, r"SampleFormat \(339\) is 2"),
        ((16,), 1, {339: (2,)}, r"SampleFormat \(339\) is 2"),
        ((32,), 1, {339: (3,)}, r"SampleFormat \(339\) is 3"),
        ((32,) * 3, 2, {339: (3,) * 3}, r"SampleFormat \(339\) is 3, 3, 3"),
        ((32,), 1, {}, r"BitsPerSample \(258\) is 32"),
        ((8,) * 5, 5, {338: (2,)}, r"PhotometricInterpretation \(262\) is 5.*ExtraSamples \(338\) is 2"),
        ((8,) * 5, 5, {338: (2,), 284: (2,)}, r"ExtraSamples \(338\) is 2.*PlanarConfiguration \(284\) is 2"),
        ((5, 6, 5), 2, {}, r"BitsPerSample \(258\) is 5, 6, 5"),
        ((8,), 4, {}, r"PhotometricInterpretation \(262\) is 4"),
        ((8,), 1, {259: (34712,)}, r"Compression \(259\) is 34712"),
        ((16, 16), 1, {338: (2,), 259: (8,), 317: (2,)}, r"Predictor \(317\) is 2"),
        ((8,) * 20, 2, {}, r"SamplesPerPixel \(277\) is 20"),
    ],
)
def test_what_can_not_be_read_names_the_tag_and_its_value(
    bits: tuple[int, ...], photometric: int, tags: dict[int, Sequence[int]], said: str
) -> None:
    data = tiff(
        SIZE,
        [bytes(SIZE[0] * SIZE[1] * sum(bits) // 8)] * (len(bits) if 284 in tags else 1),
        bits=bits,
        photometric=photometric,
        tags=tags,
    )
    with pytest.raises(UnsupportedImage, match=said) as caught:
        render(data, WHOLE)
    assert caught.value.reason == "unsupported"


def test_webp_inside_is_read_or_named() -> None:
    data = tiff(SIZE, [b"RIFF"], bits=(8, 8, 8), photometric=2, tags={259: (50001,)})
    with pytest.raises((UnsupportedImage, DamagedImage)) as caught:
        render(data, WHOLE)
    assert "WebP inside TIFF" in str(caught.value) or "damaged" in str(caught.value)


@pytest.mark.parametrize("tags", [{50706: (1, 4, 0, 0)}, {262: (32803,)}, {262: (34892,)}])
def test_raw_photos_are_told_what_they_are(tags: dict[int, Sequence[int]]) -> None:
    data = tiff(SIZE, [bytes(96 * 3)], bits=(8, 8, 8), photometric=2, tags=tags)
    with pytest.raises(UnsupportedImage, match="raw photo") as caught:
        render(data, WHOLE)
    assert "raw converter" in caught.value.advice


def test_a_raw_photo_is_not_taken_for_its_preview() -> None:
    """NEF and ARW begin with a small picture; that of the sensor is in a directory of its own."""
    preview = tiff(SIZE, [bytes(96)])
    sensor_at = len(preview)
    sensor = struct.pack("<H", 1) + struct.pack("<HHII", 262, 3, 1, 32803) + bytes(4)
    data = tiff(SIZE, [bytes(96)], tags={254: (1,), 330: (0x00FFFFFF,)})
    data += bytes(sensor_at)
    at = len(data)
    data = data.replace(struct.pack("<I", 0x00FFFFFF), struct.pack("<I", at)) + sensor
    with pytest.raises(UnsupportedImage, match="raw photo"):
        render(data, WHOLE)


def test_cut_short_and_damaged_are_told_apart() -> None:
    data = tiff(SIZE, stored(3, 8, "<", False), bits=(8, 8, 8), photometric=2, tags={270: (65,)})
    directory_first = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    moved = data[:8] + data[at:] + data[8:at]  # as many writers do: the pixels come last
    directory_first = bytearray(moved)
    struct.pack_into("<I", directory_first, 4, 8)
    entries = struct.unpack_from("<H", directory_first, 8)[0]
    for index in range(entries):
        tag, kind, count, value = struct.unpack_from("<HHII", directory_first, 10 + 12 * index)
        if tag == 273:
            struct.pack_into("<I", directory_first, 18 + 12 * index, 8 + len(data) - at)
        elif kind == 3 and count > 2:
            struct.pack_into("<I", directory_first, 18 + 12 * index, value - at + 8)
    whole = bytes(directory_first)
    assert_bands(shown(whole), BANDS[:3])
    for cut in (4, 20, 100, len(whole) - 60, len(whole) - 1):
        with pytest.raises(TruncatedImage):
            render(whole[:cut], WHOLE)
    nowhere = tiff(SIZE, [bytes(96)], tags={273: (0x7FFFFF0,)})
    with pytest.raises(TruncatedImage):
        render(nowhere, WHOLE)
    noise = bytearray(encoded(quadrants(), "TIFF", compression="tiff_adobe_deflate"))
    noise[20:60] = bytes(40)
    with pytest.raises(DamagedImage) as caught:
        render(bytes(noise), WHOLE)
    assert caught.value.reason == "damaged"


# What it costs


def test_one_strip_of_wide_samples_counts_what_it_takes() -> None:
    """16-bit RGBA that is unpacked in one piece: 8 bytes a pixel beside the 4 of the picture."""
    strip = [packed([0] * 96 * 4, 16, "<")]
    data = tiff(SIZE, strip, bits=(16,) * 4, photometric=2, deflate=True, tags={338: (2,)})
    render(data, WHOLE, Limits(max_pixels=96 * 3))
    with pytest.raises(ImageTooLarge, match=r"count 3 times as TIFF in large strips .*MAX_PIXELS is 287"):
        render(data, WHOLE, Limits(max_pixels=96 * 3 - 1))
    rows = tiff(
        SIZE, [packed([0] * 12 * 4, 16, "<")] * 8, bits=(16,) * 4, photometric=2, deflate=True, tags={338: (2,)}
    )
    render(rows, WHOLE, Limits(max_pixels=96))


def test_planes_count_three_times() -> None:
    data = tiff(SIZE, stored(3, 16, "<", True), bits=(16,) * 3, photometric=2, tags={284: (2,)})
    render(data, WHOLE, Limits(max_pixels=96 * 3))
    with pytest.raises(ImageTooLarge, match="count 3 times as TIFF in planes"):
        render(data, WHOLE, Limits(max_pixels=96 * 3 - 1))


def test_a_private_tag_as_long_as_the_file_costs_nothing() -> None:
    """Photoshop keeps its layers in one: they are not unpacked to be looked at."""
    layers = bytes(3_000_000)
    data = tiff(SIZE, [bytes(96)], tags={37724: (1, 2)})
    at = data.index(struct.pack("<HHI", 37724, 3, 2))
    patched = data[:at] + struct.pack("<HHII", 37724, 7, len(layers), len(data)) + data[at + 12 :] + layers
    assert render(patched, WHOLE).source_width == 12


@pytest.mark.parametrize("at", [2**64 - 1, 2**63, 2**40])
def test_a_directory_beyond_any_file(at: int) -> None:
    data = tiff(SIZE, [bytes(96)], big=True)
    with pytest.raises(TruncatedImage, match="directory"):
        render(data[:8] + struct.pack("<Q", at) + data[16:], WHOLE)
