"""Writes RENDITIONS: values in, text out, and one rendition changed. The inverse of ``renditions.parse``."""

from __future__ import annotations

from pipeline.core.errors import ConfigError
from pipeline.core.settings import Settings
from pipeline.images.renditions import MAX_SIDE, ORIGINAL, Declared, declared, parse


def box_text(box: tuple[int, int]) -> str:
    """``640x480``; ``640x`` where the height does not count."""
    if box == (MAX_SIDE, MAX_SIDE):
        return f"{MAX_SIDE}x{MAX_SIDE}"
    return "x".join("" if side == MAX_SIDE else str(side) for side in box)


def spelled(settings: Settings, *, changed: str | None = None, box: str = "", options: tuple[str, ...] = ()) -> str:
    """The value of RENDITIONS that says what the settings say, whichever of them say it.

    ``changed``: the name of a rendition that gets another ``box`` and other ``options`` ("cover", "webp", "q80"). What
    it is made from then follows from these, as for a rendition that does not say it. Raises ``ConfigError`` for a name
    that there is not, and for a box or an option that is none.
    """
    renditions = declared(settings)
    if changed is not None and changed not in (each.name for each in renditions):
        raise ConfigError(f"there is no rendition {changed!r}")
    automatic = {
        each.name: each.made_from
        for each in parse(
            ",".join(_entry(each, settings, with_parent=False) for each in renditions),
            form=settings.output_format,
            quality=settings.quality,
        )
    }
    entries = [
        f"{each.name}={':'.join([box, *options])}"
        if each.name == changed
        else _entry(each, settings, with_parent=automatic[each.name] != each.made_from)
        for each in renditions
    ]
    text = ", ".join(entries)
    found = parse(text, form=settings.output_format, quality=settings.quality)
    if {each.name for each in found} != set(automatic):
        raise ConfigError(f"{box!r} is no box, or one of {', '.join(options)} is no option")
    return text


def _entry(each: Declared, settings: Settings, *, with_parent: bool) -> str:
    parent = f"<{ORIGINAL if each.made_from is None else each.made_from}" if with_parent else ""
    options = [
        *(["cover"] if each.is_cover else []),
        *([each.form] if each.form is not None and each.form != settings.output_format else []),
        *([f"q{each.quality}"] if each.quality is not None and each.quality != settings.quality else []),
    ]
    return f"{each.name}{parent}={':'.join([box_text(each.box), *options])}"
