"""Validates routes: rejects those that would overwrite each other, or could never be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError
from pipeline.core.names import FAILED_PREFIX, MAX_AROUND_BYTES
from pipeline.core.outputs import Output, Step

if TYPE_CHECKING:
    from pipeline.core.routes import Route


def check(routes: Sequence[Route]) -> None:
    """Raises ``ConfigError`` that names the route."""
    if not routes:
        raise ConfigError("ROUTES names no route at all")
    folders: dict[str, str] = {FAILED_PREFIX: "the failure records"}
    names: set[str] = set()
    for route in routes:
        where = f"route {route.name!r}"
        if not route.name or route.name in names:
            raise ConfigError(f"{where}: the name is empty or taken by another route")
        names.add(route.name)
        _check_kinds(route, where)
        if not route.tasks or not route.outputs:
            raise ConfigError(f"{where}: name at least one task, and at least one output that it leaves")
        if any(not suffix.startswith(".") or suffix != suffix.lower() for suffix in route.match_suffixes):
            raise ConfigError(
                f"{where}: its match_suffixes must be lower case and begin with a dot: {route.match_suffixes}"
            )
        for output in route.outputs:
            _check_output(output, where, folders)
            if output.made_from is not None and folders.get(output.made_from) != where:
                raise ConfigError(
                    f"{where}: {output.folder!r} is made from {output.made_from!r}, which is not an output before it"
                )
            folders[output.folder] = where


def _check_kinds(route: Route, where: str) -> None:
    kinds: tuple[tuple[str, Any, type | tuple[type, ...], str], ...] = (
        ("tasks", route.tasks, (str, Step), "names of tasks"),
        ("outputs", route.outputs, Output, "Output"),
        ("match_suffixes", route.match_suffixes, str, "suffixes"),
    )
    for name, given, kind, what in kinds:
        if not isinstance(given, tuple) or not all(isinstance(each, kind) for each in given):
            raise ConfigError(f"{where}: its {name} must be a list of {what}, not {given!r}")
    if not isinstance(route.prefix, str) or not (route.content is None or callable(route.content)):
        raise ConfigError(f"{where}: its prefix must be a text, and its content a function")


def _check_output(output: Output, where: str, folders: dict[str, str]) -> None:
    folder = output.folder
    if not folder.endswith("/") or folder.startswith("/"):
        raise ConfigError(f"{where}: folder {folder!r} must end with a slash and not begin with one")
    if sum((bool(output.append_suffix), output.replace_suffix is not None, output.endings is not None)) > 1:
        raise ConfigError(f"{where}: {folder!r} has append_suffix and replace_suffix; take one of them")
    for name in ("append_suffix", "replace_suffix"):
        suffix = getattr(output, name)
        if suffix and (not suffix.startswith(".") or "/" in suffix or not suffix.isascii()):
            raise ConfigError(f"{where}: {name} {suffix!r} must begin with a dot, in ASCII and without a slash")
        if len((folder + (suffix or "")).encode()) > MAX_AROUND_BYTES:
            raise ConfigError(f"{where}: folder and {name} have more than {MAX_AROUND_BYTES} bytes: {folder!r}")
    for other, owner in folders.items():
        if folder.startswith(other) or other.startswith(folder):
            raise ConfigError(f"{where}: folder {folder!r} is or overlaps {other!r} of {owner}; take another one")
