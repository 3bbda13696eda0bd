"""``--stack NAME``: the command uses the settings of that stack's workers, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from pipeline.cli.verb_errors import Asking, Unanswered
from pipeline.core.errors import PipelineError

#: Settings of this process, never taken from the stack.
_OWN = {"HEALTH_FOLDER", "ECS_AGENT_URI"}


def of_stack(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--stack`` to a command. It applies while the command runs."""
    option = click.option(
        "--stack",
        metavar="NAME",
        expose_value=False,
        is_eager=True,
        callback=_take,
        help="Use the settings of this stack's workers instead of this shell's variables.",
    )
    return option(command)


def _take(ctx: click.Context, _parameter: click.Parameter, stack: str | None) -> None:
    if stack is None:
        return
    from pipeline.deploy.environment import of_stack as settings_of

    try:
        values = settings_of(stack)
    except PipelineError as exc:
        raise (Unanswered if isinstance(ctx.command, Asking) else click.ClickException)(str(exc)) from exc
    ctx.meta["pipeline.stack"] = stack  # for a command that prints how to continue
    ctx.with_resource(_environment(values))


def stack_vcpus(ctx: click.Context) -> float:
    """vCPUs of all workers together: of ``--stack`` at MaxWorkers, else the template's default, 20."""
    stack = ctx.meta.get("pipeline.stack")
    if stack is None:
        return 20.0
    from pipeline.deploy.environment import worker_vcpus

    try:
        return worker_vcpus(stack)
    except PipelineError as exc:
        raise (Unanswered if isinstance(ctx.command, Asking) else click.ClickException)(str(exc)) from exc


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets the environment to these settings; a setting that the stack does not set is unset here too."""
    from pipeline.core.settings import Settings

    names = {name.upper() for name in Settings.model_fields} | {"PIPELINE_SETTINGS", *values}
    before = {name: os.environ.pop(name) for name in names - _OWN if name in os.environ}
    os.environ.update({name: value for name, value in values.items() if name not in _OWN})
    try:
        yield
    finally:
        for name in names - _OWN:
            os.environ.pop(name, None)
        os.environ.update(before)
