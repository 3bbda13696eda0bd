"""Every state that CloudFormation knows has its advice; none that holds data is told to be torn down."""

from __future__ import annotations

import pytest
from botocore.session import Session

from pipeline.core.errors import PipelineError
from pipeline.deploy import states
from pipeline.deploy.states import StackState

KNOWN = Session().get_service_model("cloudformation").shape_for("StackStatus").enum
CHANGEABLE = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
NEW = {"REVIEW_IN_PROGRESS", "DELETE_COMPLETE"}
#: The only ones in which nothing ever ran, or in which it was to be deleted anyway.
TO_TEAR_DOWN = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"}


@pytest.mark.parametrize("status", KNOWN)
def test_each_state_is_known(status: str) -> None:
    if status in NEW | CHANGEABLE:
        assert states.of("photos", status) is (StackState.NEW if status in NEW else StackState.AT_REST)
        return
    with pytest.raises(PipelineError, match=status) as raised:
        states.of("photos", status)
    text = str(raised.value)
    assert "not known" not in text
    assert ("pipeline teardown --stack photos" in text) == (status in TO_TEAR_DOWN)
    assert ("wait until that is done" in text) == status.endswith("_IN_PROGRESS")


def test_no_stack_is_a_new_one() -> None:
    assert states.of("photos", None) is StackState.NEW


def test_an_update_that_could_not_go_back_is_continued() -> None:
    with pytest.raises(PipelineError, match="continue-update-rollback --stack-name photos"):
        states.of("photos", "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(PipelineError, match="rollback-stack --stack-name photos"):
        states.of("photos", "UPDATE_FAILED")


def test_after_an_update_that_went_back_what_ran_before_runs() -> None:
    assert "runs again" in states.after_failure("photos", "UPDATE_ROLLBACK_COMPLETE")
    assert "deploy again, which removes it" in states.after_failure("photos", "ROLLBACK_COMPLETE")
    assert "teardown" in states.after_failure("photos", "ROLLBACK_FAILED")
