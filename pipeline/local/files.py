"""Finds the files of a local run, and the key of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.source import MAX_KEY_BYTES


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file can't be uploaded, and what to do."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class File:
    """A file, its key, and its problem, if there is one."""

    path: Path
    key: str
    problem: Problem | None = None


def find(paths: Sequence[Path], *, leave_out: Path, may_change: bool = False) -> list[File]:
    """All files below ``paths``, sorted by key, except those in ``leave_out``.

    One folder: keys are relative to it. Several paths: each begins with its path's name.
    ``may_change``: there may be no files yet, and folders may disappear meanwhile.
    Raises ``PipelineError`` if a path is missing, no file is found, or two files would have the same key.
    """
    found: dict[str, File] = {}
    left_out = leave_out.resolve()
    for path in paths:
        if not os.path.lexists(path):
            raise PipelineError(f"{path}: no such file or folder")
        root = path if path.is_dir() and len(paths) == 1 else path.absolute().parent
        for file in _walk(path, left_out, may_change):
            entry = _entry(file, Path(os.path.relpath(file, root)).as_posix())
            if entry.key in found and not found[entry.key].path.samefile(file):
                raise PipelineError(f"{found[entry.key].path} and {file} both want the key {entry.key}: rename one")
            found[entry.key] = entry
    if not found and not may_change:
        raise PipelineError(f"{', '.join(map(str, paths))}: there are no files in it")
    return [found[key] for key in sorted(found)]


def _walk(path: Path, left_out: Path, may_change: bool) -> Iterator[Path]:
    def unlistable(exc: OSError) -> None:
        if not (may_change and isinstance(exc, FileNotFoundError)):
            raise PipelineError(f"{exc.filename}: cannot be listed: {exc.strerror}") from exc

    if not path.is_dir():
        if not path.resolve().is_relative_to(left_out):
            yield path
        return
    for folder, _, names in os.walk(path, onerror=unlistable):
        if Path(folder).resolve().is_relative_to(left_out):
            continue
        for file in (Path(folder, name) for name in names):
            if not (file.is_symlink() and file.resolve().is_relative_to(left_out)):
                yield file


def _entry(path: Path, key: str) -> File:
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        shown = key.encode(errors="surrogateescape").decode(errors="replace")
        return File(path, shown, Problem("its name is not UTF-8, which an S3 key has to be", "Rename the file."))
    if size_bytes > MAX_KEY_BYTES:
        reason = f"its path has {size_bytes} bytes, more than the {MAX_KEY_BYTES} that an S3 key may have"
        return File(path, key, Problem(reason, "Shorten its name, or those of its folders."))
    if not path.exists():
        return File(path, key, Problem("it is a link to a file that does not exist", "Correct or remove the link."))
    if not path.is_file():
        return File(path, key, Problem("it is not a regular file", "Take it out of the folder."))
    return File(path, key)
