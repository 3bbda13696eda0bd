"""``python -m pipeline routes``: the declared routes, and the route that takes an object."""

from __future__ import annotations

import click

from pipeline.core import console
from pipeline.core.routes import Route, Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.s3 import content


def show(uri: str | None) -> int:
    """Returns the exit status. Raises ``PipelineError``."""
    routes = Routes.load(Settings.from_env(), content.look)
    if uri is None:
        console.print_table(
            ["route", "takes", "tasks", "leaves"], [_row(route, routes.settings) for route in routes.all]
        )
        return 0
    source = Source.parse(uri)
    route = routes.match(source)
    click.echo(f"no route: {routes.skip_reason(source)}" if route is None else f"route {route.name}")
    return 1 if route is None else 0


def _row(route: Route, settings: Settings) -> list[str]:
    endings = ", ".join(route.match_suffixes) or "any ending"
    beginning = max(settings.key_prefix, route.prefix, key=len)
    where = f"{beginning}…" if beginning else ""
    rule = "" if route.content is None else "by content"
    taken = " ".join(part for part in (where, endings, rule) if part)
    names = {output.name("<key>") for output in route.outputs}
    return [route.name, taken, " → ".join(map(str, route.steps)), ", ".join(sorted(names))]
