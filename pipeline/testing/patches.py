"""Attributes that are other ones for a while, for programs without pytest."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self
from unittest import mock


class Patch(Protocol):
    """As much of ``pytest.MonkeyPatch`` as the model needs."""

    def setattr(self, target: Any, name: Any, value: Any = ..., /) -> None: ...


class Patches:
    """A context manager: on leaving, all is as it was."""

    def __init__(self) -> None:
        self._undone = ExitStack()

    def setattr(self, target: Any, name: Any, value: Any = ..., /) -> None:
        """``setattr(object, "name", value)``, or ``setattr("module.name", value)``."""
        patch = mock.patch(target, name) if value is ... else mock.patch.object(target, name, value)
        self._undone.enter_context(patch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._undone.close()
