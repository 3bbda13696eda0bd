"""Processes of the tests: finding what was left behind."""

from __future__ import annotations

from pathlib import Path


def marked(mark: str) -> list[str]:
    """Command lines of all living processes whose environment carries the mark (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended meanwhile, or isn't ours
    return found
