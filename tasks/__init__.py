"""The Celery tasks: ``from tasks import resize, thumbnail``.

They are loaded when first used, so that ``tasks.images`` can be imported without Celery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.renditions import resize, thumbnail

__all__ = ["resize", "thumbnail"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tasks import renditions

    return getattr(renditions, name)
