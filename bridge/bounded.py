"""Calls rules for the content for a bounded time: a rule that hangs delays its own object, and no other.

While the service that the rules read from fails for everybody, they are called only for an occasional probe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.core.errors import ServiceUnavailable, TransientError
from pipeline.sqs.outage.gate import Gate

T = TypeVar("T")

#: Seconds that the bridge waits for the rules of one object. Then a worker decides, which has SOFT_TIME_LIMIT_S.
RULE_S = 10.0
#: Maximum number of hanging rules, each of which has cost ``RULE_S``. While so many hang, a worker decides at once.
MOST_LEFT = 4


class RuleHangs(TransientError):
    """A rule for the content has not returned in time, or too many earlier ones still hang."""


class RulesWait(TransientError):
    """The service that rules read from fails for everybody."""


class BoundedCalls:
    """Calls a function in a thread of its own, and abandons the thread if it takes too long: nothing can end it.

    ``wait`` returns when the thread has ended, or its time is up. ``gate``: whether rules may be called now.
    """

    def __init__(
        self,
        wait: Callable[[threading.Thread], object] = lambda thread: thread.join(RULE_S),
        gate: Gate | None = None,
    ) -> None:
        self._wait = wait
        self._gate = Gate(meanwhile="the bridge asks workers for the routes of objects") if gate is None else gate
        self._left: list[threading.Thread] = []

    def __call__(self, function: Callable[[], T], about: str) -> T:
        """Returns or raises what the function does. ``about``: the object's URI.

        Raises ``RuleHangs`` if the function takes too long, ``RulesWait`` if rules must not be called now.
        """
        if not self._gate.admit([about]):
            raise RulesWait("the service that rules read from fails for everybody")
        try:
            result = self._call(function)
        except ServiceUnavailable as exc:
            self._gate.failed(about, str(exc), about)
            raise
        finally:
            self._gate.ended(about)
        self._gate.worked("rules")
        return result

    def _call(self, function: Callable[[], T]) -> T:
        self._left = [thread for thread in self._left if thread.is_alive()]
        if len(self._left) >= MOST_LEFT:
            raise RuleHangs(f"the rules of {len(self._left)} other objects have not answered yet")
        ended: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                ended.append((function(), None))
            except BaseException as exc:
                ended.append((None, exc))

        thread = threading.Thread(target=run, name="rule", daemon=True)
        thread.start()
        self._wait(thread)
        if not ended:
            self._left.append(thread)
            raise RuleHangs(f"a rule for its content has not answered in {RULE_S:g} s")
        ((result, exc),) = ended
        if exc is not None:
            raise exc
        returned: T = result
        return returned
