"""The recipe of each rendition, from the settings, and its digest, which is stored and compared."""

from __future__ import annotations

from functools import lru_cache

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.images.renditions import Declared, declared
from tasks.images.render import Recipe
from tasks.images.resample import simd_problem


def recipe(settings: Settings, rendition: Declared) -> Recipe:
    """The recipe of a declared rendition. Raises ``ConfigError`` if RESAMPLER=simd can't be used here."""
    problem = None if settings.resampler == "pillow" else simd_problem()
    if settings.resampler == "simd" and problem is not None:
        raise ConfigError(f"RESAMPLER=simd can't be used: {problem}")
    return Recipe(
        rendition.box,
        None if rendition.form is None else rendition.form.upper(),
        rendition.quality,
        settings.effort,
        "pillow" if settings.resampler == "pillow" or problem is not None else "simd",
        "cover" if rendition.is_cover else "contain",
    )


def recipes(settings: Settings) -> dict[str, str]:
    """Digests by rendition name. A rendition made from another one has both digests, with a dot between them."""
    return _recipes(declared(settings), settings.effort)


@lru_cache(maxsize=64)  # every task needs it
def _recipes(renditions: tuple[Declared, ...], effort: int | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in renditions:
        form = None if each.form is None else each.form.upper()
        own = Recipe(each.box, form, each.quality, effort, fit="cover" if each.is_cover else "contain").digest
        found[each.name] = own if each.made_from is None else f"{found[each.made_from]}.{own}"
    return found
