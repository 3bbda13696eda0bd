"""A part of a page, between two marks, that a program writes."""

from __future__ import annotations


def renewed(text: str, begins: str, ends: str, part: str) -> str:
    """The page's text with ``part`` between its marks. Raises ``ValueError`` where it lacks one."""
    before, mark, rest = text.partition(begins)
    _, end, after = rest.partition(ends)
    if not (mark and end):
        raise ValueError(f"the page has no place for what is made: put {begins.strip()} and {ends.strip()} into it")
    return before + begins + part + ends + after
