"""A template without its comments: CloudFormation takes 51,200 bytes in a request, and they say nothing to it.

Source: CloudFormation User Guide, "Understand CloudFormation quotas" (template body size in a request; a template that
comes from S3, as the console's do, may have 1 MB).
"""

from __future__ import annotations

import re

#: Of a template that is sent as part of a request, in bytes.
MAX_BYTES = 51_200

#: Where a value may begin, which is where YAML takes a quote for one: at the line's beginning, in a list or a mapping.
_BEGINS = r"""(?:^\s*(?:[-?]\s+)*|[\[{,]\s*|(?<=["']):\s*|:\s+)(?:[!&]\S*\s+)*"""
#: A quoted scalar, which is kept, or a comment.
_QUOTED_OR_COMMENT = re.compile(rf"""({_BEGINS}(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'))|((?:^|\s+)#.*$)""")
_BLOCK_BEGINS = re.compile(r"(?:^|\s)[|>][-+\d]*$")


def compacted(template: str) -> str:
    """The same template; JSON, which has no comments, as it is."""
    if template.lstrip().startswith("{"):
        return template
    kept: list[str] = []
    block: int | None = None  # the indent of the line whose text goes on below it
    for line in template.splitlines():
        indent = len(line) - len(line.lstrip())
        if block is not None and (not line.strip() or indent > block):
            kept.append(line)
            continue
        bare = _QUOTED_OR_COMMENT.sub(lambda found: found[1] or "", line).rstrip()
        block = indent if _BLOCK_BEGINS.search(bare) else None
        if bare:
            kept.append(bare)
    return "\n".join(kept) + "\n"
