"""What each state of a stack means for a deployment, and how to leave states in which it can't be changed.

Source: CloudFormation User Guide, "Understand CloudFormation stack creation events" (stack status codes) and
"Continue rolling back an update".
"""

from __future__ import annotations

from enum import Enum

from pipeline.core.errors import PipelineError


class StackState(Enum):
    NEW = "there is nothing yet"
    AT_REST = "can be changed"


#: A failed creation: the stack can only be deleted, and nothing is lost.
ROLLED_BACK = "ROLLBACK_COMPLETE"

_AT_REST = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}

_NEVER_RAN = (
    "its creation failed, so nothing of it ever ran and it holds no data: remove what is left with "
    "`python -m pipeline teardown --stack {stack} --no-drain`, correct the cause, deploy again"
)
_STUCK = {
    "CREATE_FAILED": _NEVER_RAN,
    ROLLED_BACK: _NEVER_RAN,
    "ROLLBACK_FAILED": _NEVER_RAN,
    "UPDATE_FAILED": (
        "an update failed and was not rolled back; what runs may be of both versions. Take it back with "
        "`aws cloudformation rollback-stack --stack-name {stack}`, then deploy again. Do not tear it down"
    ),
    "UPDATE_ROLLBACK_FAILED": (
        "an update failed, and so did going back; what ran before still runs. Correct what the stack's events name "
        "(usually a resource that was changed or deleted by hand, or a service that does not become steady), then "
        "`aws cloudformation continue-update-rollback --stack-name {stack}`; a resource that can't be helped is left "
        "out with `--resources-to-skip ITS-LOGICAL-ID`. Then deploy again. Do not tear it down"
    ),
    "IMPORT_ROLLBACK_FAILED": (
        "taking over existing resources failed, and so did going back: the stack's events name the resource; AWS "
        "offers no command for this state, its support does. Do not tear it down before the buckets are safe"
    ),
    "DELETE_FAILED": (
        "its deletion failed: the stack's events name what could not be deleted. Correct that, then "
        "`python -m pipeline teardown --stack {stack} --no-drain` goes on with it"
    ),
}


def of(stack: str, status: str | None) -> StackState:
    """``status``: None if there is no stack. Raises ``PipelineError``, with advice, if it can't be changed."""
    if status is None or status in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
        return StackState.NEW  # under review: an earlier change set that nobody executed
    if status in _AT_REST:
        return StackState.AT_REST
    if status in _STUCK:
        raise PipelineError(f"stack {stack} is {status}: {_STUCK[status].format(stack=stack)}")
    if status.endswith("_IN_PROGRESS"):
        raise PipelineError(f"stack {stack} is being changed ({status}): wait until that is done, then deploy again")
    raise PipelineError(f"stack {stack} is {status}, which is not known here: see its events in the console")


def after_failure(stack: str, status: str) -> str:
    """What to do after a deployment that ended in this state."""
    if status == "UPDATE_ROLLBACK_COMPLETE":
        return "What ran before runs again; correct the cause, and deploy again."
    if status == ROLLED_BACK:
        return "The creation failed, so nothing of it ever ran: correct the cause, and deploy again, which removes it."
    try:
        of(stack, status)
    except PipelineError as exc:
        return f"{exc}."
    return ""
