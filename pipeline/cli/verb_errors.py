"""How commands end: this project's errors become one plain message and an exit status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline.core.errors import MessageError, PipelineError
from pipeline.core.settings import renamed_in_use


class Group(click.Group):
    """All commands. Shows this project's errors as one plain message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        for sentence in renamed_in_use():
            click.echo(sentence, err=True)
        try:
            return super().invoke(ctx)
        except PipelineError as exc:
            raise click.ClickException(str(exc)) from exc
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(130)


class Unanswered(click.ClickException):
    """The check itself failed."""

    exit_code = 2


class Asking(click.Command):
    """A command that answers a question. Exit status 1 is an answer, so a failure of the check itself exits with 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PipelineError as exc:
            raise Unanswered(str(exc)) from exc


class S3Target(click.ParamType[str]):
    """``s3://bucket`` or ``s3://bucket/prefix``; anything else is wrong usage."""

    name = "s3://bucket/prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pipeline.core.source import place

        return self._checked(place, str(value), param, ctx)

    def _checked(
        self, parse: Callable[[str], object], value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            parse(value)
        except MessageError as exc:
            self.fail(str(exc), param, ctx)
        return value


class ObjectUri(S3Target):
    """``s3://bucket/key``, the key as it is; anything else is wrong usage."""

    name = "s3://bucket/key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pipeline.core.source import Source

        return self._checked(Source.parse, str(value), param, ctx)
