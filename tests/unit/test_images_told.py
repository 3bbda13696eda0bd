"""What a file is told to be: the right one of the five reasons, the format's name, and what to do about it."""

from __future__ import annotations

import re
import struct

import pytest
from PIL import Image

from pipeline.core.errors import (
    DamagedImage,
    ImageTooLarge,
    NotAnImage,
    TruncatedImage,
    UnsupportedImage,
)
from tasks.images.decode import READ
from tasks.images.limits import MAX_SIDE
from tasks.images.render import Limits, Recipe, render
from tests.support.heifs import box, heif
from tests.support.pictures import encoded, opened, png, quadrants
from tests.unit.test_images_dangerous import FILES

BOX = Recipe((40, 40), "PNG")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x29" + bytes(99), "JPEG 2000"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
        (b"II\xbc\1" + bytes(99), "JPEG XR"),
        (b"8BPS\0\1" + bytes(99), "PSD"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg:svg>", "SVG"),
        (b"\0\0\1\0\1\0\x10\x10" + bytes(99), "ICO"),
        (bytes((0, 0, 2)) + bytes(9) + struct.pack("<HHBB", 4, 4, 24, 0) + bytes(48), "TGA"),
        (bytes(99) + b"TRUEVISION-XFILE.\0", "TGA"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "CR2"),
        (box(b"ftyp", b"crx ", bytes(4), b"crx isom"), "CR3"),
        (b"II\x1a\0\0\0HEAPCCDR" + bytes(99), "CRW"),
        (b"IIRO\x08\0\0\0" + bytes(99), "ORF"),
        (b"IIU\0\x08\0\0\0" + bytes(99), "RW2"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "RAF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
        (b"P6\n2 2\n255\n" + bytes(12), "PNM"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"DDS \x7c\0\0\0" + bytes(99), "DDS"),
        (b"\x76\x2f\x31\1" + bytes(99), "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"qoif" + bytes(99), "QOI"),
        (b"gimp xcf v011" + bytes(99), "XCF"),
    ],
)
def test_pictures_that_are_not_read_are_named(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedImage, match=re.escape(name)) as caught:
        render(data, BOX)
    assert caught.value.reason == "unsupported"
    assert "JPEG or PNG" in caught.value.advice
    assert ", ".join(READ) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b"PK\3\4" + bytes(99), "ZIP"),
        (b"<!DOCTYPE html><html><body>Not found", "HTML"),
        (b"\n <html lang='en'>", "HTML"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "XML"),
        (box(b"ftyp", b"isom", bytes(4), b"isommp42") + bytes(99), "MP4"),
        (box(b"ftyp", b"qt  ", bytes(4)) + bytes(99), "MOV"),
        (b"\x1f\x8b\x08" + bytes(99), "gzip"),
        (b"Rar!\x1a\7\1\0" + bytes(99), "RAR"),
        (b"\x1a\x45\xdf\xa3" + bytes(99), "WebM"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(99), "AVI"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99), "macOS"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, name: str) -> None:
    with pytest.raises(NotAnImage, match=name) as caught:
        render(data, BOX)
    assert caught.value.reason == "not-an-image"


@pytest.mark.parametrize(("marker", "said"), [(0xC3, "lossless JPEG"), (0xF7, "JPEG-LS"), (0xC5, "hierarchical JPEG")])
def test_other_jpegs_are_named(marker: int, said: str) -> None:
    data = FILES["jpeg"].replace(b"\xff\xc0", bytes((0xFF, marker)))
    with pytest.raises(UnsupportedImage, match=said):
        render(data, BOX)


def test_a_jpeg_with_twelve_bits_or_two_components_is_named() -> None:
    at = FILES["jpeg"].index(b"\xff\xc0")
    for offset, value, said in ((4, 12, "12 bits a sample"), (9, 2, "2 components")):
        data = bytearray(FILES["jpeg"])
        data[at + offset] = value
        with pytest.raises(UnsupportedImage, match=said):
            render(bytes(data), BOX)


@pytest.mark.parametrize("name", ["webp", "webp-lossless", "gif", "tiff", "bmp", "avif", "heic", "png"])
def test_a_file_that_ends_early_is_truncated_and_noise_is_damage(name: str) -> None:
    data = FILES[name]
    with pytest.raises(TruncatedImage) as caught:
        render(data[: len(data) * 2 // 3], BOX)
    assert caught.value.reason == "truncated"
    if name not in ("gif", "heic", "png"):
        return  # of the others, nearly any bytes are a picture
    noise = data[: len(data) // 2] + bytes(len(data) // 3) + data[len(data) // 2 + len(data) // 3 :]
    with pytest.raises(DamagedImage):
        render(noise, BOX)


def test_apples_own_png_is_named() -> None:
    data = encoded(quadrants(), "PNG")
    with pytest.raises(UnsupportedImage, match="CgBI"):
        render(data[:8] + b"\0\0\0\4CgBI" + bytes(8) + data[8:], BOX)


# Limits name their value, and their setting where they have one


def test_no_side_is_longer_than_a_jpeg_can_be() -> None:
    """One column of many pixels takes six times the memory of a square, and half a minute."""
    for size in ((1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)):
        with pytest.raises(ImageTooLarge, match=r"limit of a side is 65,535, and fixed"):
            render(png(*size, 1, 0, [bytes(size[0] // 8 + 1)] * size[1]), BOX)
    assert render(png(1, MAX_SIDE, 1, 0, [b"\0"] * MAX_SIDE), BOX).source_height == MAX_SIDE


def test_a_limit_never_contradicts_itself() -> None:
    huge = png(60_000, 60_000, 8, 2, [])
    with pytest.raises(ImageTooLarge) as caught:
        render(huge, BOX)
    assert "3,600,000,000 pixels" in str(caught.value)
    assert "MAX_PIXELS is 100,000,000" in str(caught.value)
    assert "1000000000" not in str(caught.value)


# GIF and PNG with frames


def gif(canvas: tuple[int, int], frame: tuple[int, int, int, int]) -> bytes:
    """One frame of colour 1 at a place of the canvas; what is around it is nowhere said."""
    part = Image.new("P", frame[2:], 1)
    part.putpalette([0, 0, 200, 200, 0, 0])
    data = bytearray(encoded(part, "GIF", optimize=False))
    struct.pack_into("<HH", data, 6, *canvas)
    at = data.index(b"\x2c")
    struct.pack_into("<HH", data, at + 1, *frame[:2])
    return bytes(data)


def test_around_a_small_first_frame_there_is_nothing() -> None:
    image = opened(render(gif((20, 16), (4, 6, 8, 5)), BOX).data)
    assert image.size == (20, 16)
    alpha = image.getchannel("A")
    assert alpha.getbbox() == (4, 6, 12, 11)
    assert image.getpixel((6, 8)) == (200, 0, 0, 255)


def test_a_frame_that_fills_its_canvas_is_opaque() -> None:
    assert opened(render(gif((8, 5), (0, 0, 8, 5)), BOX).data).mode == "RGB"


def test_an_animated_png_shows_its_default_image() -> None:
    """What every program shows that knows nothing of animations; most often it is the first frame, too."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encoded(quadrants(16, 16), "PNG", save_all=True, append_images=frames, default_image=True)
    assert render(data, BOX).data == render(encoded(quadrants(16, 16), "PNG"), BOX).data


# Orientation


def test_only_exif_turns_a_picture() -> None:
    """Some editors leave the old orientation in XMP when they have turned the pixels; no browser looks there."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for format in ("JPEG", "WEBP", "PNG"):
        options = {"xmp": xmp}
        if format == "PNG":
            from PIL import PngImagePlugin

            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options = {"pnginfo": info}  # type: ignore[dict-item]
        rendition = render(encoded(quadrants(), format, **options), BOX)
        assert (rendition.source_width, rendition.source_height) == (96, 64), format


# HEIC and AVIF


def test_an_overlay_of_layers_is_refused_unread() -> None:
    layers = dict.fromkeys(range(2, 902), "hvc1")
    sizes = {1: (7000, 7000), 2: (7000, 7000)}
    for brand in (b"heic", b"avif"):
        with pytest.raises(UnsupportedImage, match="overlay of layers"):
            render(heif({1: "iovl"} | layers, sizes, {1: list(layers)}, brand=brand), BOX)
    behind_a_turn = heif({1: "iden", 2: "iovl", 3: "hvc1"}, {1: (9, 9), 2: (9, 9), 3: (9, 9)}, {1: [2], 2: [3] * 900})
    with pytest.raises(UnsupportedImage, match="overlay of layers"):
        render(behind_a_turn, BOX)
    alpha = heif({1: "hvc1", 2: "iovl", 3: "hvc1"}, {1: (9, 9), 2: (9, 9), 3: (9, 9)}, {2: [3] * 900}, beside={2: 1})
    with pytest.raises(UnsupportedImage, match="overlay of layers"):
        render(alpha, BOX)


@pytest.mark.parametrize("brand", [b"heic", b"avif"])
def test_a_grid_may_not_ask_for_more_than_it_shows(brand: bytes) -> None:
    big = heif({1: "grid", 2: "hvc1"}, {1: (2000, 2000), 2: (7000, 7000)}, {1: [2] * 900}, brand=brand)
    with pytest.raises(ImageTooLarge, match=r"puts together 44,100,000,000 pixels to show 4,000,000; the limit is 2"):
        render(big, BOX)
    many = heif({1: "grid", 2: "hvc1"}, {1: (2000, 2000), 2: (8, 8)}, {1: [2] * 2000}, brand=brand)
    with pytest.raises(ImageTooLarge, match="grid of 2000 tiles; the limit is 1024"):
        render(many, BOX)
    chain = dict.fromkeys(range(1, 9), "iden") | {9: "hvc1"}
    sizes = dict.fromkeys(chain, (9, 9))
    with pytest.raises(ImageTooLarge, match="derives pictures from pictures"):
        render(heif(chain, sizes, {item: [item + 1] for item in range(1, 9)}, brand=brand), BOX)
    itself = heif({1: "iden"}, {1: (9, 9)}, {1: [1]}, brand=brand)
    with pytest.raises(ImageTooLarge):
        render(itself, BOX)


def test_the_size_that_the_description_says_is_judged_before_decoding() -> None:
    with pytest.raises(ImageTooLarge, match=r"30000x30000 .*MAX_PIXELS"):
        render(heif({1: "hvc1"}, {1: (30_000, 30_000)}, {}), BOX)


def test_a_description_without_a_picture_is_damage() -> None:
    with pytest.raises(DamagedImage):
        render(heif({1: "hvc1"}, {1: (64, 64)}, {}), BOX)


def test_memory_that_is_not_there_is_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second try would end the same way: the error is permanent, and says so."""

    def hungry(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", hungry)
    with pytest.raises(ImageTooLarge, match="more memory") as caught:
        render(FILES["png"], BOX, Limits())
    assert caught.value.reason == "too-large"


def test_a_photo_with_a_gain_map_keeps_its_base_picture() -> None:
    """Ultra HDR: XMP says so, and a second, smaller JPEG behind the first one has the gains. Nobody needs either."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description hdrgm:Version="1.0"/></x:xmpmeta>'
    gains = Image.linear_gradient("L").resize((24, 16))
    base = render(encoded(quadrants(), "JPEG"), BOX).data
    behind = encoded(quadrants(), "JPEG", xmp=xmp) + encoded(gains, "JPEG")
    listed = encoded(quadrants(), "MPO", xmp=xmp, save_all=True, append_images=[gains.convert("RGB")])
    for data in (behind, listed):
        rendition = render(data, BOX)
        assert rendition.data == base
        assert rendition.salvaged is None
