"""The state diagrams of docs/architecture.md have the states that the code has, and name modules that exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass

import pytest

from bridge.disposition import EFFECTS, EventOutcome
from pipeline.core.provenance import Provenance
from pipeline.local.stack import MAX_RECEIVES
from pipeline.operations.audit.classify import Status
from tasks.outcome import Outcome
from tests.docs.pages import blocks, tables, template
from tests.stack.template import of_type

PAGE = "docs/architecture.md"
#: Who takes an arrow and is no module of ours.
FOREIGN = {"S3", "SQS", "Celery"}
START, END = "[*]", "[*] "
ARROW = re.compile(r"    (\S+) --> (\S+) : ([\w.]+), ([^:;\n]+)")
EVENT, TASK, OBJECT = (block.text for block in blocks(PAGE) if block.language == "mermaid")


@dataclass(frozen=True)
class Arrow:
    source: str
    target: str
    actor: str
    when: str


def arrows(diagram: str) -> list[Arrow]:
    first, *lines = diagram.splitlines()
    assert first == "stateDiagram-v2"
    found = []
    for line in lines:
        match = ARROW.fullmatch(line)
        assert match is not None, f"{line!r} is not 'state --> state : module, when'"
        source, target, actor, when = match.groups()
        found.append(Arrow(source, END if target == START else target, actor, when))
    return found


def states(diagram: str) -> set[str]:
    return {state for arrow in arrows(diagram) for state in (arrow.source, arrow.target)} - {START, END}


def reached(diagram: str, state: str) -> set[str]:
    """All states that an arrow leads to from there, over others."""
    found: set[str] = set()
    todo = [state]
    while todo:
        at = todo.pop()
        after = {arrow.target for arrow in arrows(diagram) if arrow.source == at} - found
        found |= after
        todo += after
    return found


@pytest.mark.parametrize("diagram", [EVENT, TASK, OBJECT], ids=["event", "task", "object"])
def test_arrows_name_modules_and_every_state_has_a_way_in_and_out(diagram: str) -> None:
    for arrow in arrows(diagram):
        names = [arrow.actor] if "." in arrow.actor else [f"pipeline.sqs.transport.{arrow.actor}"]
        assert arrow.actor in FOREIGN or importlib.util.find_spec(names[0]) is not None, f"{arrow}: no such module"
    assert reached(diagram, START) >= states(diagram)
    for state in states(diagram) - {Status.SKIPPED.value}:  # nothing ever happens to what is not for us
        assert END in reached(diagram, state), f"{state} leads nowhere"


def test_a_message_of_an_event_has_the_outcomes_of_the_bridge() -> None:
    assert states(EVENT) == {outcome.value for outcome in EventOutcome} | {"waiting", "received", "dead_letter"}
    for outcome, effect in EFFECTS.items():
        (target,) = {arrow.target for arrow in arrows(EVENT) if arrow.source == outcome.value}
        assert target == ("dead_letter" if effect.dead_letter else END if effect.delete else "waiting")


def test_a_message_of_a_task_ends_only_when_it_is_settled() -> None:
    assert states(TASK) == {
        "waiting", "in_flight", "running", "settled", "delayed", "released", "lost", "dead_letter",
    }  # fmt: skip
    assert {arrow.source for arrow in arrows(TASK) if arrow.target == END} == {"settled", "dead_letter"}
    for state in ("lost", "released"):
        assert {arrow.target for arrow in arrows(TASK) if arrow.source == state} == {"waiting"}


def test_an_object_is_in_one_of_the_states_that_the_audit_counts() -> None:
    not_known = {Status.UNREADABLE}  # what the audit could not look at is in any of the others
    assert states(OBJECT) == {status.value for status in set(Status) - not_known}


def _rows(heading: str) -> dict[str, str]:
    (rows,) = [rows[1:] for rows in tables(PAGE) if rows[0][0] == heading]
    return {row[0]: row[1] for row in rows}


def test_the_outcomes_of_tasks_are_all_told() -> None:
    told = [name.strip("`") for name in _rows("outcome")]
    assert told == [outcome.value for outcome in Outcome]
    assert [outcome.goes_on for outcome in Outcome] == [name in told[:2] for name in told]


def test_the_arrows_that_are_explained_are_there() -> None:
    drawn = {f"{arrow.source} → {arrow.target}" for arrow in arrows(TASK)}
    assert {arrow for cell in _rows("arrow") for arrow in cell.split(", ")} <= drawn


def test_metadata_is_told_by_its_names() -> None:
    full = Provenance(*["bucket", "etag", "version", "sequencer", "modified", "recipe", "suffix"])
    told = {name.strip("`") for cell in _rows("name") for name in cell.split(", ")}
    assert told >= set(full.metadata())


def test_numbers_are_those_of_the_code() -> None:
    figures = [rows[1:] for rows in tables(PAGE) if rows[0][-1] == "constant"]
    assert figures
    for row in (row for rows in figures for row in rows):
        module, _, name = row[-1].strip("`").rpartition(".")
        assert float(row[-2].replace(",", "")) == getattr(importlib.import_module(module), name), row


def test_a_message_of_the_stack_is_received_as_often_as_one_of_the_local_run() -> None:
    for queue in of_type(template(), "AWS::SQS::Queue").values():
        assert queue["Properties"].get("RedrivePolicy", {}).get("maxReceiveCount", MAX_RECEIVES) == MAX_RECEIVES
