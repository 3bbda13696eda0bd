"""Which objects are processed, by which tasks, and what comes of it: routes, declared by modules that ROUTES names.

A module of routes has a sequence ``ROUTES`` of ``Route``; that of the images is ``pipeline.images``. The first route
that takes an object is the only one. The bridge, the verbs that enqueue, the audit and the tasks all ask the same
``Routes`` (``app.routes``), so what is declared in one place holds everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module

from pipeline.core.errors import ConfigError, MessageError
from pipeline.core.names import FAILED_PREFIX, MAX_AROUND_BYTES, stored_name
from pipeline.core.settings import Settings
from pipeline.core.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a task makes of an object: stored in the output bucket as ``<folder><key><append_suffix>``.

    (Where that is too long for S3, under a shorter name: see ``pipeline.core.names``.)
    """

    folder: str  # ends with a slash: "pages/"
    append_suffix: str = ""  # ".png", or nothing
    content_type: str = "application/octet-stream"
    recipe: str = "1"  # raise it when the same object would give something else: what is stored is then out of date

    def below(self, prefix: str) -> Output:
        """The same in a folder of the output bucket: OUTPUT_PREFIX."""
        return replace(self, folder=prefix + self.folder)

    def name(self, key: str) -> str:
        return stored_name(self.folder, key, self.append_suffix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From objects to tasks, and to what they leave in the output bucket.

    - ``name``: for logs and for ``process(…, route=name)``;
    - ``prefix``, ``match_suffixes``, ``content``: what it takes. Keys that begin so, and that end in one of the
      suffixes (lower case, compared in any case; none means any). ``content`` is a rule that is asked last, and may
      look into the object: see ``pipeline.s3.content``;
    - ``tasks``: the names of Celery tasks, run as a chain: the first is given the object (a ``Source`` as JSON),
      each other one the result of the one before it;
    - ``outputs``: all that must be stored for the object to be done.
    """

    name: str
    tasks: tuple[str, ...]
    outputs: tuple[Output, ...]
    prefix: str = ""
    match_suffixes: tuple[str, ...] = ()
    content: Callable[[Source], bool] | None = None

    def suffixes(self, settings: Settings) -> tuple[str, ...]:
        """What a key must end in, lower case: one of these; none means any."""
        return self.match_suffixes

    def reject_reason(self, key: str, settings: Settings) -> str | None:
        """Why it does not take a key, in words; None where it may."""
        if not key.startswith(self.prefix):
            return f"its key does not begin with {self.prefix}"
        suffixes = self.suffixes(settings)
        if suffixes and not key.lower().endswith(suffixes):
            return f"its key ends in none of {', '.join(suffixes)}"
        return None

    def output_sets(self, key: str, settings: Settings) -> tuple[tuple[Output, ...], ...]:
        """What the object is done with: any one of these, whole. Most routes have just one way to be done."""
        return (self.outputs,)

    def all_outputs(self, key: str) -> tuple[Output, ...]:
        """All that may be stored of the object by this route, whatever the settings are or were."""
        return self.outputs

    def recipes(self, settings: Settings) -> dict[str, str]:
        """The recipe that each output is to be made by, by its folder."""
        return {output.folder: output.recipe for output in self.outputs}


class Routes:
    """All that is declared, in the order of the modules in ROUTES. Raises ``ConfigError``: see ``_check``."""

    def __init__(self, settings: Settings, routes: Iterable[Route]) -> None:
        self.settings = settings
        declared = tuple(routes)
        _check(declared)
        #: From here on outputs have their folder in the bucket: OUTPUT_PREFIX is in it.
        self.all = tuple(
            replace(route, outputs=tuple(output.below(settings.output_prefix) for output in route.outputs))
            for route in declared
        )
        self._answer = lru_cache(maxsize=4096)(_ask)
        self.folders = tuple(output.folder for route in self.all for output in route.outputs)

    @classmethod
    def load(cls, settings: Settings) -> Routes:
        """Imports the modules. Raises ``ConfigError``."""
        return cls(settings, [route for module in settings.routes for route in _declared(module)])

    def match(self, source: Source) -> Route | None:
        """The route that takes the object. Raises what a rule for the content raises."""
        if self._barred(source.bucket, source.key) is not None:
            return None
        return next((route for route in self.match_key(source.key) if self._takes(route, source)), None)

    def skip_reason(self, source: Source, *, is_gone: bool = False) -> str | None:
        """Why an object is not processed, or None when it is. ``source.key`` is decoded. Raises as ``match`` does.

        ``is_gone``: there is no content to be asked for any more.
        """
        barred = self._barred(source.bucket, source.key)
        if barred is not None or (self.match_key(source.key) if is_gone else self.match(source)):
            return barred
        reasons = [(route.name, route.reject_reason(source.key, self.settings)) for route in self.all]
        found = [(name, "its content is something else" if why is None else why) for name, why in reasons]
        return found[0][1] if len(found) == 1 else "; ".join(f"{name}: {why}" for name, why in found)

    def match_key(self, key: str) -> list[Route]:
        """The routes that may take an object with this key, depending on its content."""
        return [route for route in self.all if route.reject_reason(key, self.settings) is None]

    def resolve(self, source: Source, name: str | None = None) -> Route:
        """The route to enqueue an object on: the named one; else the one that takes it; else the only one there is.

        Raises ``MessageError`` when that says nothing.
        """
        if name is not None:
            found = [route for route in self.all if route.name == name]
            if not found:
                raise MessageError(f"there is no route {name!r}; ROUTES has {self._names()}")
            return found[0]
        route = self.match(source)
        if route is not None:
            return route
        if len(self.all) == 1:
            return self.all[0]
        raise MessageError(f"no route takes {source.uri} ({self.skip_reason(source)}): name one of {self._names()}")

    def output_sets(self, source: Source) -> tuple[tuple[Output, ...], ...]:
        """What the object is done with, any one of these; of every route where none takes it: somebody chose one."""
        route = self.match(source)
        return self._output_sets(source.key, self.all if route is None else (route,))

    def outputs(self, key: str, *, ever: bool = False) -> list[Output]:
        """What may be stored of an object; ``ever``: also of other routes, and by other settings."""
        if ever:
            return [output for route in self.all for output in route.all_outputs(key)]
        routes = self.match_key(key) or self.all
        return [output for each in self._output_sets(key, routes) for output in each]

    def _output_sets(self, key: str, routes: Iterable[Route]) -> tuple[tuple[Output, ...], ...]:
        return tuple(each for route in routes for each in route.output_sets(key, self.settings))

    def recipes(self) -> dict[str, str]:
        """The recipe that each output is to be made by, by its folder."""
        return {folder: recipe for route in self.all for folder, recipe in route.recipes(self.settings).items()}

    def _takes(self, route: Route, source: Source) -> bool:
        if route.content is None:
            return True
        # One version has one content, so it is asked for once.
        return route.content(source) if source.etag is None else self._answer(route.content, source)

    def _names(self) -> str:
        return ", ".join(route.name for route in self.all)

    def _barred(self, bucket: str, key: str) -> str | None:
        if key.endswith("/"):
            return "it is a folder"
        if not key.startswith(self.settings.key_prefix):
            return f"its key does not begin with KEY_PREFIX={self.settings.key_prefix}"
        return "it was written by the pipeline" if self.is_output(bucket, key) else None

    def is_output(self, bucket: str, key: str) -> bool:
        """Whether only the pipeline writes under that name. Metadata proves nothing: whoever uploads chooses it."""
        return bucket == self.settings.output_bucket and key.startswith((self.settings.failed_folder, *self.folders))


def _ask(rule: Callable[[Source], bool], source: Source) -> bool:
    return rule(source)


#: Where modules of routes have moved to; the names that they had in 0.1 still work in ROUTES.
_MOVED = {"tasks.routes": "pipeline.images"}


def _declared(module: str) -> Iterator[Route]:
    try:
        declared = import_module(_MOVED.get(module, module)).ROUTES
    except Exception as exc:
        raise ConfigError(
            f"ROUTES={module}: no routes could be read from this module ({exc}): put it where Python finds it, "
            "with a list called ROUTES in it, or correct ROUTES"
        ) from exc
    if not isinstance(declared, Sequence) or not all(isinstance(route, Route) for route in declared):
        raise ConfigError(f"ROUTES={module}: its ROUTES must be a list of pipeline.core.routes.Route, not {declared!r}")
    yield from declared


def _check(routes: Sequence[Route]) -> None:
    """Raises ``ConfigError`` for what would make routes write over each other, or never be found."""
    if not routes:
        raise ConfigError("ROUTES names no route at all")
    folders: dict[str, str] = {FAILED_PREFIX: "the failure records"}
    names: set[str] = set()
    for route in routes:
        where = f"route {route.name!r}"
        if not route.name or route.name in names:
            raise ConfigError(f"{where}: the name is empty or taken by another route")
        names.add(route.name)
        if not route.tasks or not route.outputs:
            raise ConfigError(f"{where}: name at least one task, and at least one output that it leaves")
        if any(not suffix.startswith(".") or suffix != suffix.lower() for suffix in route.match_suffixes):
            raise ConfigError(
                f"{where}: its match_suffixes must be lower case and begin with a dot: {route.match_suffixes}"
            )
        for output in route.outputs:
            _check_output(output, where, folders)
            folders[output.folder] = where


def _check_output(output: Output, where: str, folders: dict[str, str]) -> None:
    folder, suffix = output.folder, output.append_suffix
    if not folder.endswith("/") or folder.startswith("/"):
        raise ConfigError(f"{where}: folder {folder!r} must end with a slash and not begin with one")
    if suffix and (not suffix.startswith(".") or "/" in suffix or not suffix.isascii()):
        raise ConfigError(f"{where}: append_suffix {suffix!r} must begin with a dot, in ASCII and without a slash")
    if len((folder + suffix).encode()) > MAX_AROUND_BYTES:
        raise ConfigError(f"{where}: folder and append_suffix have more than {MAX_AROUND_BYTES} bytes: {folder!r}")
    for other, owner in folders.items():
        if folder.startswith(other) or other.startswith(folder):
            raise ConfigError(f"{where}: folder {folder!r} is or overlaps {other!r} of {owner}; take another one")
