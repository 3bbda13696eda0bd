"""Decides whether a task's message may be deleted: the proofs that a task is settled, and the effect of each ending.

A message is deleted only with proof that its work is safe. These are the only proofs:

=================================  ======================================================================
the task returned                  Celery published its callbacks and the next task of its chain before that
``settled(task, ...)`` was called  the consequence of its failure (a record) is in place
``Retry``                          Celery raises it after publishing the retry
``Ignore``                         the task raises it itself, or ``Task.replace`` does after publishing
=================================  ======================================================================

``Reject(text)`` sends the message to the dead-letter queue; ``Defer`` and ``Unavailable`` send a delayed copy of it.
Each deletes the original only after the copy was sent. Every other ending releases the message: any exception, raised
anywhere, or a lost process. SQS delivers a released message again; after its last delivery (maxReceiveCount) it goes to
the dead-letter queue instead, with the reason.
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
    """A task raises it when its work should be tried later, and the message is fine.

    The worker replaces the message with a new one that is delivered after ``delay_s`` seconds, which uses no receive.
    """

    def __init__(self, reason: str, delay_s: float) -> None:
        super().__init__(reason, requeue=True)
        self.delay_s = delay_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Pool processes send it to their worker."""
        return type(self), (self.reason, self.delay_s)


class Unavailable(Defer):
    """A task raises it when a service fails that all work of its kind may need.

    The message is delivered again as with ``Defer``. It uses up one of its tries (``request.retries``) only if other
    tasks of its kind succeed meanwhile. If none does, the worker starts no more work (``pipeline.sqs.outage.gate``).
    ``subject``: what the work is about, so that an object that fails repeatedly counts once; by default the message's
    chain.
    """

    def __init__(self, reason: str, delay_s: float, subject: str = "") -> None:
        super().__init__(reason, delay_s)
        self.subject = subject

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.delay_s, self.subject)


def settled(task: Any, outcome: str, evidence: str) -> None:
    """Called by a bound task: from now on its failure is settled, whatever the task raises.

    ``outcome``: ``failed``…; ``evidence``: what is in place, such as the URI of a failure record. Call it after that is
    in place, never before.
    """
    task.request.settled = Settled(outcome, evidence)


class Effect(Enum):
    """What happens to the message; the value is also the action in the log."""

    DELETE = "deleted"
    DEAD_LETTER = "dead_lettered"
    DEFER = "deferred"
    RELEASE = "released"


class Service(Enum):
    """What an ending says about the services that all tasks need."""

    WORKS = "works"
    FAILS = "fails"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Decision:
    effect: Effect
    reason: str = ""  # of everything but a deletion
    delay_s: float = 0.0  # of a deferral
    service: Service = Service.UNTOLD
    subject: str = ""  # if a service failed: what the work is about, if the task says so


DELETE = Decision(Effect.DELETE)
DONE = Decision(Effect.DELETE, service=Service.WORKS)


def on_return(result_repr: Any) -> Decision:
    """The decision for a task that Celery counts as done. Only a task that really ended has a result's ``repr``."""
    if isinstance(result_repr, str):
        return DONE
    return Decision(Effect.RELEASE, "the task ended without a result")


def on_raise(exc_info: Any) -> Decision:
    """The decision for any other ending, by the ``ExceptionInfo`` from its pool process or from Celery."""
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
    """The exception itself, without billiard's wrapper."""
    exc: BaseException = exc_info.exception
    return exc.exc if isinstance(exc, ExceptionWithTraceback) else exc


def _text(value: Any) -> str:
    """The text of any object: an error in a user's ``__str__`` must not decide what happens to a message."""
    try:
        return str(value)
    except Exception:
        return f"{safe_repr(value)}"


def carry(sender: Any = None, einfo: Any = None, **_: Any) -> None:
    """Adds the proof to the result that the pool process sends to its worker."""
    einfo.settled = getattr(sender.request, "settled", None)


def carry_proofs() -> None:
    """Call this in a worker before it forks its processes."""
    signals.task_failure.connect(carry, weak=False)
