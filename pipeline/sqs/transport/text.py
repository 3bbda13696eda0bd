"""JSON that SQS accepts, as short as possible.

Celery's JSON escapes everything that is not ASCII, in the task's arguments and once more in the message around them: an
``é`` of two bytes becomes seven. SQS accepts UTF-8, except for characters that XML can't represent.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kombu.utils.json import dumps

from pipeline.aws.xml import NOT_XML


def to_text(value: Any) -> str:
    """``value`` as JSON that SQS accepts. ``value`` may be anything that kombu can encode."""
    return _allowed(str(dumps(value, ensure_ascii=False)))


def escaped_once(text: str) -> str:
    """The same JSON value with unescaped characters; a text that is not JSON, or is encoded otherwise, unchanged."""
    if "\\u" not in text:
        return text
    try:
        return _allowed(json.dumps(json.loads(text), ensure_ascii=False))
    except ValueError:
        return text


def _allowed(text: str) -> str:
    """Escapes the characters that SQS rejects. In JSON they can only be in strings, where an escape means the same."""
    return NOT_XML.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
