"""Removes a template's comments and most of its indentation: CloudFormation accepts 51,200 bytes in a request.

Source: CloudFormation User Guide, "Understand CloudFormation quotas" (template body size in a request; a template in
S3, where the console puts it, may have 1 MB).
"""

from __future__ import annotations

import re

#: CloudFormation's limit for a template in a request, in bytes.
MAX_BYTES = 51_200

#: The places where a value may begin, and a quote is a quote for YAML: at the line's beginning, in a list or a mapping.
_BEGINS = r"""(?:^\s*(?:[-?]\s+)*|[\[{,]\s*|(?<=["']):\s*|:\s+)(?:[!&]\S*\s+)*"""
#: A quoted scalar, which is kept, or a comment.
_QUOTED_OR_COMMENT = re.compile(rf"""({_BEGINS}(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'))|((?:^|\s+)#.*$)""")
_ITEMS = re.compile(r"(?:- +)*")
#: A block whose header gives its indentation: its lines must keep their columns.
_EXPLICIT = re.compile(r"[|>][-+]?\d[-+]?\s*$", re.MULTILINE)
_BLOCK_BEGINS = re.compile(r"(?:^|\s)[|>][-+\d]*$")


def compacted(template: str) -> str:
    """The same template, shorter. JSON, which has no comments, is returned unchanged."""
    if template.lstrip().startswith("{"):
        return template
    kept: list[str] = []
    columns = None if _EXPLICIT.search(template) else Columns()
    block: int | None = None  # the indentation of the line that begins the current block of text
    for line in template.splitlines():
        indent = len(line) - len(line.lstrip())
        if block is not None and (not line.strip() or indent > block):
            kept.append(line)
            continue
        bare = _QUOTED_OR_COMMENT.sub(lambda found: found[1] or "", line).rstrip()
        block = indent if _BLOCK_BEGINS.search(bare) else None
        if bare:
            kept.append(bare if columns is None else columns.moved(bare))
    return "\n".join(kept) + "\n"


class Columns:
    """Maps each level of indentation from its old column to its new one."""

    def __init__(self) -> None:
        self._levels = [(0, 0)]

    def moved(self, line: str) -> str:
        """The line with the least indentation that its level needs."""
        text = line.lstrip()
        before = len(line) - len(text)
        while self._levels[-1][0] > before:
            self._levels.pop()
        if self._levels[-1][0] < before:
            self._levels.append((before, self._levels[-1][1] + 1))
        now = self._levels[-1][1]
        for item in re.finditer(r"-( +)", _ITEMS.match(text)[0]):  # type: ignore[index]
            # The text after a dash begins a level of its own, which the lines below it share.
            self._levels.append((self._levels[-1][0] + len(item[0]), self._levels[-1][1] + len(item[0])))
        return " " * now + text
