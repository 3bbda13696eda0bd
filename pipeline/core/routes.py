"""Routes: which objects are processed, by which tasks, with which outputs. The modules that ROUTES names declare them.

A module of routes has ``ROUTES``: a list of ``Route``, or a function from the settings to one; the images' module is
``pipeline.images``. Only the first route that takes an object processes it. The bridge, the commands that enqueue, the
audit and the tasks all use the same ``Routes`` (``app.routes``), so one declaration is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module

from pipeline.core.errors import ConfigError, MessageError
from pipeline.core.outputs import Output, Step, StoredName
from pipeline.core.route_checks import check
from pipeline.core.settings import Settings
from pipeline.core.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which objects to take, the tasks to run, and their outputs.

    - ``name``: for logs and for ``process(…, route=name)``;
    - ``prefix``, ``match_suffixes``, ``content``: the objects that it takes: keys with this prefix and one of the
      suffixes (in lower case, compared case-insensitively; none means any). ``content`` is a rule that is evaluated
      last, and may read the object: see ``pipeline.s3.content``;
    - ``tasks``: the names of Celery tasks, run as a chain: the first one gets the object (a ``Source`` as JSON), each
      other one the result of its predecessor;
    - ``outputs``: the outputs that must be stored for the object to be done.
    """

    name: str
    tasks: Sequence[str | Step]
    outputs: Sequence[Output]
    prefix: str = ""
    match_suffixes: Sequence[str] = ()
    content: Callable[[Source], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("tasks", "outputs", "match_suffixes"):
            given = getattr(self, name)
            if isinstance(given, Iterable) and not isinstance(given, str):  # ``check`` rejects others
                object.__setattr__(self, name, tuple(given))

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(task if isinstance(task, Step) else Step(task) for task in self.tasks)

    def reject_reason(self, key: str, settings: Settings) -> str | None:
        """Why it does not take a key; None if it may."""
        if not key.startswith(self.prefix):
            return f"its key does not begin with {self.prefix}"
        suffixes = tuple(self.match_suffixes)
        if suffixes and not key.lower().endswith(suffixes):
            return f"its key ends in none of {'SUFFIXES' if suffixes == settings.suffixes else ', '.join(suffixes)}"
        return None

    def complete(self, key: str, stored: Collection[str]) -> frozenset[str]:
        """The stored names that are this route's outputs of the object; none if an output is missing."""
        found = [{each.name for each in output.names(key)} & set(stored) for output in self.outputs]
        return frozenset().union(*found) if all(found) else frozenset()


class Routes:
    """All declared routes, in the order of the modules in ROUTES. Raises ``ConfigError``: see ``route_checks``.

    ``look``: looks up the size and ETag of an object for rules about its content, if they are not known; returns
    None if the object does not exist.
    """

    def __init__(
        self, settings: Settings, routes: Iterable[Route], look: Callable[[Source], Source | None] | None = None
    ) -> None:
        self.settings = settings
        declared = tuple(routes)
        check(declared)
        #: With OUTPUT_PREFIX in the outputs' folders.
        self.all = tuple(
            replace(route, outputs=[output.below(settings.output_prefix) for output in route.outputs])
            for route in declared
        )
        self._look = look
        self._answer = lru_cache(maxsize=4096)(self._ask)
        self.outputs = tuple(output for route in self.all for output in route.outputs)
        self.folders = tuple(output.folder for output in self.outputs)

    @classmethod
    def load(cls, settings: Settings, look: Callable[[Source], Source | None] | None = None) -> Routes:
        """Imports the modules. Raises ``ConfigError``."""
        return cls(settings, [route for module in settings.routes for route in _declared(module, settings)], look)

    def match(self, source: Source) -> Route | None:
        """The route that takes the object. Raises what a rule for the content raises."""
        if self._barred(source.bucket, source.key) is not None:
            return None
        return next((route for route in self.match_key(source.key) if self._takes(route, source)), None)

    def skip_reason(self, source: Source, *, is_gone: bool = False) -> str | None:
        """Why an object is not processed, or None if it is. ``source.key`` is decoded. Raises as ``match`` does.

        ``is_gone``: the object is deleted, so its content can't be read.
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
        """The route for an object: the named one; else the one that takes it; else the only one.

        Raises ``MessageError`` if there is none of these.
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

    def may_leave(self, source: Source) -> tuple[Route, ...]:
        """The route whose outputs the object should have; all routes if none takes it, since somebody chose one."""
        route = self.match(source)
        return self.all if route is None else (route,)

    def stored_names(self, key: str, *, ever: bool = False) -> list[StoredName]:
        """The names that outputs of an object may have; ``ever``: with any routes and settings."""
        routes = self.all if ever else self.match_key(key) or self.all
        return [name for route in routes for output in route.outputs for name in output.names(key, ever=ever)]

    def output_of(self, name: str) -> Output | None:
        """The output that this name in the output bucket belongs to."""
        return next((output for output in self.outputs if name.startswith(output.folder)), None)

    def recipes(self) -> dict[str, str]:
        """The current recipe of each output, by its folder."""
        return {output.folder: output.current_recipe for output in self.outputs}

    def _takes(self, route: Route, source: Source) -> bool:
        if route.content is None:
            return True
        if source.size is None and self._look is not None:
            found = self._look(source)
            if found is None:
                return False
            source = found
        # The content of a version never changes, so the rule is evaluated once.
        return route.content(source) if source.etag is None else self._answer(route.name, source)

    def _ask(self, name: str, source: Source) -> bool:
        (rule,) = (route.content for route in self.all if route.name == name)
        return rule is None or rule(source)

    def _names(self) -> str:
        return ", ".join(route.name for route in self.all)

    def _barred(self, bucket: str, key: str) -> str | None:
        if key.endswith("/"):
            return "it is a folder"
        if not key.startswith(self.settings.key_prefix):
            return f"its key does not begin with KEY_PREFIX={self.settings.key_prefix}"
        return "it was written by the pipeline" if self.is_output(bucket, key) else None

    def is_output(self, bucket: str, key: str) -> bool:
        """Whether only the pipeline writes to this name. Metadata proves nothing, since uploaders choose it."""
        return bucket == self.settings.output_bucket and key.startswith((self.settings.failed_folder, *self.folders))


#: New names of modules of routes; ROUTES still accepts the names of version 0.1.
_MOVED = {"tasks.routes": "pipeline.images"}


def _declared(module: str, settings: Settings) -> Iterator[Route]:
    try:
        declared = import_module(_MOVED.get(module, module)).ROUTES
        if callable(declared):
            declared = declared(settings)
    except ConfigError:
        raise
    except Exception as exc:
        raise ConfigError(
            f"ROUTES={module}: no routes could be read from this module ({exc}): put it where Python finds it, "
            "with a list called ROUTES in it, or correct ROUTES"
        ) from exc
    if not isinstance(declared, Sequence) or not all(isinstance(route, Route) for route in declared):
        raise ConfigError(f"ROUTES={module}: its ROUTES must be a list of pipeline.core.routes.Route, not {declared!r}")
    yield from declared
