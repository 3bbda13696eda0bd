"""Identifies a file's format by its first bytes, for supported formats and for others."""

from __future__ import annotations

import re

from pipeline.core.errors import NotAnImage, UnsupportedImage

#: The formats that are read. Nothing else is ever opened: other plugins of Pillow start programs (EPS), have had many
#: security holes (FITS, PSD), or read formats that nobody uploads on purpose.
READ = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF")

_READ_BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"(II|MM)([\x2a\x2b]\0|\0[\x2a\x2b])",
    "BMP": rb"BM.{12}[\x0c-\x7f]\0\0\0",
}

#: Unsupported picture formats: the message asks the person to export the picture.
_OTHER_IMAGES = {
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc\x01|WMPHOTO",
    "a Canon raw photo (CR2)": rb"II\x2a\0.{4}CR",
    "a Canon raw photo (CRW)": rb"II\x1a\0\0\0HEAPCCDR",
    "an Olympus raw photo (ORF)": rb"IIR[OS]|MMOR",
    "a Panasonic raw photo (RW2)": rb"IIU\0",
    "a Fujifilm raw photo (RAF)": rb"FUJIFILMCCD-RAW",
    "a Sigma raw photo (X3F)": rb"FOVb",
    "a Minolta raw photo (MRW)": rb"\0MRM",
    "PSD (Photoshop)": rb"8BPS",
    "XCF (GIMP)": rb"gimp xcf",
    "EPS or PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "ICO (an icon)": rb"\0\0[\x01\x02]\0[^\0]\0",
    "DDS": rb"DDS ",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?(RADIANCE|RGBE)",
    "PNM (PBM, PGM, PPM)": rb"P[1-7F][\r\n\t #]",
    "QOI": rb"qoif",
    "PCX": rb"\x0a[\x00-\x05]\x01[\x01\x02\x04\x08]",
    "SGI": rb"\x01\xda[\0\x01][\x01\x02]",
    "FITS": rb"SIMPLE  =",
    "DjVu": rb"AT&TFORM",
    "MNG": rb"\x8a(MNG|JNG)\r\n|\x8bJNG",
    "BPG": rb"BPG\xfb",
    "XPM": rb"/\* XPM",
    "Sun raster": rb"\x59\xa6\x6a\x95",
    "WMF": rb"\xd7\xcd\xc6\x9a",
    "EMF": rb"\x01\0\0\0.{36} EMF",
    "an OS/2 bitmap array": rb"BA.{12}BM",
}

#: Files that people upload by mistake.
_NO_IMAGES = {
    "PDF": rb"%PDF-",
    "a ZIP archive (or an office document)": rb"PK(\x03\x04|\x05\x06|\x07\x08)",
    "a RAR archive": rb"Rar!\x1a\x07",
    "a 7z archive": rb"7z\xbc\xaf\x27\x1c",
    "a gzip archive": rb"\x1f\x8b\x08",
    "an office document": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "macOS's description of a file (its name begins with “._”), not the file": rb"\0\x05\x16\x07",
    "an AVI film": rb"RIFF....AVI ",
    "a WAV sound": rb"RIFF....WAVE",
    "a WebM or Matroska film": rb"\x1a\x45\xdf\xa3",
    "an MPEG film": rb"\0\0\x01[\xb3\xba]",
    "an MP3 sound": rb"ID3",
    "a pointer of Git LFS, not the file": rb"version https://git-lfs",
}

_HEIF_BRANDS = frozenset((b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
#: The part of a text that is searched.
_TEXT_BYTES = 4096


def identify(data: bytes) -> str:
    """One of ``READ``. Raises ``UnsupportedImage`` for other pictures, and ``NotAnImage``."""
    if not data:
        raise NotAnImage("The file is empty.", advice="Upload the file again.")
    for beginnings, refusal in ((_OTHER_IMAGES, _other_image), (_READ_BEGINNINGS, None), (_NO_IMAGES, _no_image)):
        found = next((name for name, begins in beginnings.items() if re.match(begins, data, re.DOTALL)), None)
        if found is not None and refusal is not None:
            raise refusal(found)
        if found is not None:
            return found
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    text = data[:_TEXT_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<") and re.search(rb"<([a-z]+:)?svg[\s>]", text):
        raise _other_image("SVG")
    if re.match(rb"<!doctype html|<(html|head|body|script)[\s>]", text):
        raise _no_image("HTML, a web page (perhaps of an error)")
    if text.startswith(b"<?xml"):
        raise _no_image("XML (perhaps of an error)")
    if _is_tga(data):
        raise _other_image("TGA")
    raise NotAnImage(
        f"The file begins with {_quoted(data[:8])}: that is none of the formats that are read ({', '.join(READ)})."
    )


def _by_brand(data: bytes) -> str:
    """Identifies a file of ISO's media format by its first box, which names the contents (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(data[:4], "big"), 1000)
    main, brands = data[8:12], {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if main in _AVIF_BRANDS or (main in (b"mif1", b"msf1") and brands & _AVIF_BRANDS):
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if main == b"crx ":
        raise _other_image("a Canon raw photo (CR3)")
    raise _no_image("a QuickTime film (MOV)" if main == b"qt  " else "a film or sound (MP4)")


def _is_tga(data: bytes) -> bool:
    """TGA has no signature at its beginning; newer files have one at their end."""
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        return True
    if len(data) < 18 or data[1] > 1 or data[2] not in (1, 2, 3, 9, 10, 11) or data[17] & 0xC0:
        return False
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    if data[16] not in (8, 15, 16, 24, 32) or not width or not height or (data[1] == 0) != (data[2] not in (1, 9)):
        return False
    return data[2] > 3 or len(data) >= 18 + data[0] + width * height * ((data[16] + 7) // 8)


def _other_image(name: str) -> UnsupportedImage:
    return UnsupportedImage(
        f"The file is {name}, which is not read; the formats that are read are {', '.join(READ)}.",
        advice="Export the image as JPEG or PNG, and upload that.",
    )


def _no_image(name: str) -> NotAnImage:
    return NotAnImage(f"The file is {name}, and none of the formats that are read ({', '.join(READ)}).")


def _quoted(data: bytes) -> str:
    """The bytes as text if they are printable, else in hexadecimal digits."""
    text = data.decode("latin-1")
    return f"“{text}”" if text.isascii() and text.isprintable() else data.hex(" ").upper()
