"""Makes the names of everything that the pipeline stores. Every legal key has one.

A name is ``<folder><key><suffix>``. S3 limits keys and names to the same length, so a name can be too long. Then a
digest of the whole key replaces its last part, or as many of its last parts as necessary:
``resized/2026/~sha256-<64 digits>.jpg``. No other key gets that name: a key that looks like one is digested too. The
metadata of an object with such a name has the whole key, as ``source-key``.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from urllib.parse import quote, unquote

from pipeline.core.source import MAX_KEY_BYTES

#: Folder of all routes' failure records, below OUTPUT_PREFIX.
FAILED_PREFIX = "failed/"
FAILED_SUFFIX = ".json"
#: Maximum bytes of an output's folder and suffix together: leaves room for a digest and an ending.
MAX_AROUND_BYTES = 512
#: Metadata may have 2 KB in all (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html), of which
#: the rest needs up to 500 bytes. In Base64 the longest key has 1,368.
MAX_SPELLED_BYTES = 1400

_SHORTENED = re.compile(r"(?:^|/)~sha256-[0-9a-f]{64}(?:\.[^/]*)?\Z")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")
_BASE64 = "base64:"


def stored_name(folder: str, key: str, suffix: str = "") -> str:
    """The name of an object's output in the output bucket; never longer than S3 allows."""
    plain = f"{folder}{key}{suffix}"
    if len(plain.encode()) <= MAX_KEY_BYTES and not is_shortened(key + suffix):
        return plain
    found = _ENDING.search(key)
    last = f"~sha256-{sha256(key.encode()).hexdigest()}{'' if found is None else found[0]}{suffix}"
    *parts, _ = key.split("/")
    while parts and len((folder + "/".join([*parts, last])).encode()) > MAX_KEY_BYTES:
        parts.pop()
    return folder + "/".join([*parts, last])


def failure_key(key: str, prefix: str = "") -> str:
    """The name of an object's failure record. ``prefix``: OUTPUT_PREFIX."""
    return stored_name(prefix + FAILED_PREFIX, key, FAILED_SUFFIX)


def is_shortened(name: str) -> bool:
    """Whether this name has a digest instead of a part of the key, so that only the metadata has the key."""
    return _SHORTENED.search(name) is not None


def may_be_shortened(key: str) -> bool:
    """Whether any name of this object may be shortened; fast. False is certain, True is not."""
    return len(key.encode()) > MAX_KEY_BYTES - MAX_AROUND_BYTES or "~sha256-" in key


def key_metadata(name: str, key: str, *, always: bool = False) -> dict[str, str]:
    """``source-key`` for an object's metadata if its name does not contain the whole key; else nothing.

    Percent-encoded, or in Base64 if that would be too long. ``always``: the name never contains the whole key.
    """
    if not (always or is_shortened(name)):
        return {}
    spelled = quote(key)
    if len(spelled) > MAX_SPELLED_BYTES:
        spelled = _BASE64 + urlsafe_b64encode(key.encode()).decode()
    return {"source-key": spelled}


def spelled_key(value: str | None) -> str | None:
    """Decodes ``source-key``; None if it is missing or damaged."""
    if value is None:
        return None
    try:
        encoded = value.startswith(_BASE64)
        key = urlsafe_b64decode(value.removeprefix(_BASE64)).decode() if encoded else unquote(value, errors="strict")
    except ValueError:
        return None
    return key if key else None
