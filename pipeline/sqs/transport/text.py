"""JSON that SQS accepts, as short as possible.

Celery's JSON escapes all that is not ASCII, in the task's arguments and once more in the message around them: an ``é``
of two bytes becomes seven. SQS takes UTF-8, but for the characters that XML has no place for.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kombu.utils.json import dumps

from pipeline.aws.xml import NOT_XML


def to_text(value: Any) -> str:
    """``value``, of whatever kombu has an encoding for, as JSON that SQS accepts."""
    return _allowed(str(dumps(value, ensure_ascii=False)))


def escaped_once(text: str) -> str:
    """The same JSON value with its characters as they are; what is no JSON, or is encoded otherwise, as it is."""
    if "\\u" not in text:
        return text
    try:
        return _allowed(json.dumps(json.loads(text), ensure_ascii=False))
    except ValueError:
        return text


def _allowed(text: str) -> str:
    """In JSON such a character can only be part of a string, where its escape means the same."""
    return NOT_XML.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
