"""Which objects are processed: the one rule, for the bridge and for everything that enqueues in bulk."""

from __future__ import annotations

from pipeline.config import Settings
from tasks.keys import OWN_PREFIXES


def skip_reason(bucket: str, key: str, settings: Settings) -> str | None:
    """Why an object is not processed, or None when it is. ``key`` is decoded."""
    if key.endswith("/"):
        return "it is a folder"
    if not key.startswith(settings.key_prefix):
        return f"its key does not begin with KEY_PREFIX={settings.key_prefix}"
    if not key.lower().endswith(settings.suffixes):
        return "its key ends in none of SUFFIXES"
    if bucket == settings.output_bucket and key.startswith(OWN_PREFIXES):
        return "it was written by the pipeline"
    return None
