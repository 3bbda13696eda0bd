"""Makes a task, an output and a route from a user's function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from pipeline.celery import app
from pipeline.core.errors import ImageTooLarge
from pipeline.core.outputs import Output
from pipeline.core.routes import Route
from pipeline.core.source import Source
from tasks.base import ObjectTask
from tasks.making import Artifact, Original, Plan, produce

Given = ParamSpec("Given")
Gives = TypeVar("Gives")


class Maker(Generic[Given, Gives]):
    """A function with the task, output and route that ``makes`` has made from it. Calling it calls the function.

    ``route`` is what ROUTES lists; ``task`` and ``output`` are for routes of several tasks.
    """

    def __init__(self, function: Callable[Given, Gives], task: ObjectTask, output: Output, route: Route) -> None:
        update_wrapper(self, function)
        self.function = function
        self.task = task
        self.output = output
        self.route = route

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Gives:
        return self.function(*args, **kwargs)


def makes(
    folder: str,
    *,
    match_suffixes: Sequence[str] = (),
    prefix: str = "",
    content: Callable[[Source], bool] | None = None,
    append_suffix: str = "",
    replace_suffix: str | None = None,
    content_type: str = "application/octet-stream",
    recipe: str = "1",
    name: str | None = None,
) -> Callable[[Callable[[bytes], bytes]], Maker[[bytes], bytes]]:
    """Makes a task, an output and a route from a function that turns an object's bytes into an output's bytes.

    ``match_suffixes``, ``prefix`` and ``content`` select the objects, as in ``Route``. The others describe the output,
    as in ``Output``. ``name``: of the task and the route; by default the function's name, for the task with its module.
    See ``derive`` for what the function may raise.
    """
    output = Output(
        folder=folder,
        append_suffix=append_suffix,
        replace_suffix=replace_suffix,
        content_type=content_type,
        recipe=recipe,
    )

    def made(function: Callable[[bytes], bytes]) -> Maker[[bytes], bytes]:
        task, route = _declare(function, derive, output, name, match_suffixes, prefix, content)
        return Maker(function, task, output, route)

    return made


def makes_file(
    folder: str,
    *,
    match_suffixes: Sequence[str] = (),
    prefix: str = "",
    content: Callable[[Source], bool] | None = None,
    append_suffix: str = "",
    replace_suffix: str | None = None,
    content_type: str = "application/octet-stream",
    recipe: str = "1",
    name: str | None = None,
) -> Callable[[Callable[[Path, Path], object]], Maker[[Path, Path], object]]:
    """Like ``makes``, for a function that reads the object from one file and writes another: see ``derive_file``."""
    output = Output(
        folder=folder,
        append_suffix=append_suffix,
        replace_suffix=replace_suffix,
        content_type=content_type,
        recipe=recipe,
    )

    def made(function: Callable[[Path, Path], object]) -> Maker[[Path, Path], object]:
        task, route = _declare(function, derive_file, output, name, match_suffixes, prefix, content)
        return Maker(function, task, output, route)

    return made


def _declare(
    function: Callable[..., Any],
    way: Callable[..., dict[str, Any]],
    output: Output,
    name: str | None,
    match_suffixes: Sequence[str],
    prefix: str,
    content: Callable[[Source], bool] | None,
) -> tuple[ObjectTask, Route]:
    def body(self: ObjectTask, source: str | dict[str, Any]) -> dict[str, Any]:
        return way(self, source, output, function)

    body.__doc__ = function.__doc__
    body.__module__ = function.__module__
    task_name = f"{function.__module__}.{function.__name__}" if name is None else name
    task = app.task(name=task_name, bind=True, base=ObjectTask, output=output)(body)
    route = Route(
        name=function.__name__ if name is None else name,
        tasks=[task_name],
        outputs=[output],
        match_suffixes=match_suffixes,
        prefix=prefix,
        content=content,
    )
    return task, route


def derive(
    task: ObjectTask,
    source: str | dict[str, Any],
    output: Output,
    make: Callable[[bytes], bytes],
    *,
    careful: bool = False,
) -> dict[str, Any]:
    """Reads an object, passes its bytes to ``make``, and stores the result as ``output`` of the object.

    Everything around ``make`` is as for images: a duplicate or outdated message is harmless, and the task is retried if
    a service fails. A ``PermanentError`` from ``make`` becomes a failure record with its advice; any other exception
    becomes one, too. An object of more than MAX_BYTES bytes is refused unread.

    ``source``: the task's own argument: ``s3://bucket/key``, the JSON of a ``Source``, or the result of the previous
    task in a chain. Returns the task's result. (``careful`` is for tasks that were written for version 0.1.)
    """

    def made(original: Original) -> Artifact:
        return Artifact(make(original.data), output.content_type, output.suffixes[0])

    plan = Plan(output.below(task.app.settings.output_prefix), made)
    return produce(task, source, lambda _: plan, check_existing=careful)


def derive_file(
    task: ObjectTask, source: str | dict[str, Any], output: Output, make: Callable[[Path, Path], object]
) -> dict[str, Any]:
    """Like ``derive``, for objects too large for memory: ``make`` reads the object from one file and writes another.

    Both are in an empty folder, which is removed afterwards with all its contents. Each file may have MAX_FILE_BYTES
    bytes. If the disk is full, the task is retried later.
    """

    def made(original: Original) -> Artifact:
        if original.path is None:
            raise TypeError("the plan says that it is on disk")
        target = original.path.with_name("made")
        make(original.path, target)
        if not target.is_file():
            raise FileNotFoundError(f"{task.name} has written nothing to the path that it was given for it")
        if target.stat().st_size > task.app.settings.max_file_bytes:
            raise ImageTooLarge(f"What is made of it has {target.stat().st_size:,} bytes, more than MAX_FILE_BYTES.")
        return Artifact(target, output.content_type, output.suffixes[0])

    plan = Plan(output.below(task.app.settings.output_prefix), made, on_disk=True)
    return produce(task, source, lambda _: plan)
