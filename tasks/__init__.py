"""The Celery tasks, ``from tasks import resize, thumbnail``, and the building blocks of your own tasks.

Each name is loaded on first use, so that ``tasks.images`` can be imported without Celery.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import ObjectTask
    from tasks.own import derive, derive_file, makes, makes_file
    from tasks.renditions import rendition, resize, thumbnail

__all__ = ["ObjectTask", "derive", "derive_file", "makes", "makes_file", "rendition", "resize", "thumbnail"]

_HOMES = {
    "ObjectTask": "tasks.base",
    "derive": "tasks.own",
    "derive_file": "tasks.own",
    "makes": "tasks.own",
    "makes_file": "tasks.own",
    "rendition": "tasks.renditions",
    "resize": "tasks.renditions",
    "thumbnail": "tasks.renditions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
