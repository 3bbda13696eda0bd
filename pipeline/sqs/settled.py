"""Whether a task's message may be deleted: how a task proves that it is settled, and what each ending does.

A message is deleted only for a proof that its work is safe. The proofs are these, and there are no others:

=================================  ======================================================================
the task returned                  its callbacks and the next task of its chain were published before that
``settled(task, ...)`` was called  what follows from its failure (a record) is in place
``Retry``                          Celery raises it after the retry was published
``Ignore``                         the task says so itself; ``Task.replace`` raises it after it has published
=================================  ======================================================================

``Reject(text)`` sends the message to the dead-letter queue; ``Defer`` and ``Unavailable`` send a delayed copy of it.
Each deletes the original only when the copy is in place. Everything else releases it: whatever was raised, wherever, or
a lost process. A released message is delivered again, and goes to the dead-letter queue with its reason instead when it
was delivered as often as its queue allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery import signals
from celery.exceptions import Ignore, Reject, Retry
from kombu.utils.encoding import safe_repr

from pipeline.sqs.transport.publishing import PublishError


@dataclass(frozen=True, slots=True)
class Settled:
    """The proof that a task's failure is settled."""

    outcome: str  # ``failed``…
    evidence: str  # what is in place: the URI of the failure record…


class Defer(Reject):
    """A task raises it when its work is not to be tried now: nothing is wrong with the message.

    The message comes back after ``delay_s`` seconds as a new one, so that no receive is used up.
    """

    def __init__(self, reason: str, delay_s: float) -> None:
        super().__init__(reason, requeue=True)
        self.delay_s = delay_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Pool processes send it to their worker."""
        return type(self), (self.reason, self.delay_s)


class Unavailable(Defer):
    """A task raises it when a service fails that all work of its kind may need.

    The message comes back as with ``Defer``. Whether that costs one of its tries (``request.retries``) is decided by
    the worker, which sees whether others succeed meanwhile; where none does, the worker stops starting work
    (``pipeline.sqs.outage.gate``). ``subject``: what the work is about, so that one object that fails again and again
    counts once; by default the message's chain.
    """

    def __init__(self, reason: str, delay_s: float, subject: str = "") -> None:
        super().__init__(reason, delay_s)
        self.subject = subject

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.delay_s, self.subject)


def settled(task: Any, outcome: str, evidence: str) -> None:
    """For the body of a bound task: its failure is settled now, whatever it raises from here on.

    Call it after what ``evidence`` names is in place, never before.
    """
    task.request.settled = Settled(outcome, evidence)


class Effect(Enum):
    """What becomes of the message; an action in the log."""

    DELETE = "deleted"
    DEAD_LETTER = "dead_lettered"
    DEFER = "deferred"
    RELEASE = "released"


class Service(Enum):
    """What an ending tells of the services that all work needs."""

    WORKS = "works"
    FAILS = "fails"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Decision:
    effect: Effect
    reason: str = ""  # of everything but a deletion
    delay_s: float = 0.0  # of a deferral
    service: Service = Service.UNTOLD
    subject: str = ""  # of a service that fails: what for, where the task says so


DELETE = Decision(Effect.DELETE)
DONE = Decision(Effect.DELETE, service=Service.WORKS)


def on_return(result_repr: Any) -> Decision:
    """For a task that Celery takes for done. It has a ``repr`` of the result only where it came to the end of it."""
    if isinstance(result_repr, str):
        return DONE
    return Decision(Effect.RELEASE, "the task ended without a result")


def on_raise(exc_info: Any) -> Decision:
    """For a task that ended otherwise, by the ``ExceptionInfo`` that its pool process sent, or Celery made."""
    exc = raised(exc_info)
    match exc:
        case _ if isinstance(getattr(exc_info, "settled", None), Settled):
            return DELETE
        case Retry() | Ignore():
            return DELETE
        case Unavailable():
            return Decision(Effect.DEFER, _text(exc.reason), exc.delay_s, Service.FAILS, exc.subject)
        case Defer():
            return Decision(Effect.DEFER, _text(exc.reason), exc.delay_s)
        case Reject(requeue=False, reason=str() as reason):
            return Decision(Effect.DEAD_LETTER, reason)
        case _:
            return _released(exc)


def _released(exc: BaseException) -> Decision:
    why = exc.reason if isinstance(exc, Reject) else exc  # Celery rejects a retry that could not be published
    unpublished = isinstance(why, PublishError) and not why.is_refusal
    text = _text(why) if why is not exc else f"{type(exc).__name__}: {_text(exc)}".rstrip(": ")
    return Decision(Effect.RELEASE, text, service=Service.FAILS if unpublished else Service.UNTOLD)


def raised(exc_info: Any) -> BaseException:
    """The exception itself, out of what billiard wraps it in."""
    exc: BaseException = exc_info.exception
    return exc.exc if isinstance(exc, ExceptionWithTraceback) else exc


def _text(value: Any) -> str:
    """Of anything: what a user's exception does when it is shown must not decide where a message ends."""
    try:
        return str(value)
    except Exception:
        return f"{safe_repr(value)}"


def carry(sender: Any = None, einfo: Any = None, **_: Any) -> None:
    """Gives the proof to what the pool process sends to its worker."""
    einfo.settled = getattr(sender.request, "settled", None)


def carry_proofs() -> None:
    """To be called in a worker, before its processes are forked."""
    signals.task_failure.connect(carry, weak=False)
