"""Queues, topics and their dead letters."""

from __future__ import annotations

from collections.abc import Iterator

from tests.stack.rules.base import Template, rule, tls_only
from tests.stack.template import Stack

#: Deliveries before the dead-letter queue; each worker that is lost counts, so fewer would be unfair.
MIN_RECEIVES = 5


@rule
def queues_are_named_as_the_code_expects(template: Template) -> Iterator[str]:
    stack = Stack(template)
    found = {queue["Properties"]["QueueName"] for queue in stack.resources("AWS::SQS::Queue").values()}
    found |= {topic["Properties"]["TopicName"] for topic in stack.resources("AWS::SNS::Topic").values()}
    prefix = "photos-"
    wanted = {"events", "events-dlq", "tasks", "tasks-dlq", "celeryev", "pidbox", "alarms"}
    if found != {prefix + name for name in wanted}:
        yield f"queues and topics are called {sorted(found)}"


@rule
def every_queue_has_its_dead_letters(template: Template) -> Iterator[str]:
    stack = Stack(template)
    queues = {
        queue["Properties"]["QueueName"]: queue["Properties"] for queue in stack.resources("AWS::SQS::Queue").values()
    }
    for name in ("photos-events", "photos-tasks"):
        redrive = queues.get(name, {}).get("RedrivePolicy", {})
        dead = queues.get(redrive.get("deadLetterTargetArn", "").rpartition(":")[2])
        if dead is None or dead["QueueName"] != f"{name}-dlq":
            yield f"{name} has no dead-letter queue of its own"
            continue
        if redrive["maxReceiveCount"] < MIN_RECEIVES:
            yield f"{name}: {redrive['maxReceiveCount']} receives are used up by as many lost workers"
        if dead["MessageRetentionPeriod"] <= queues[name]["MessageRetentionPeriod"]:
            yield f"{name}: what is moved keeps its age, so the dead-letter queue must keep it longer"
        allowed = dead.get("RedriveAllowPolicy", {}).get("sourceQueueArns", [])
        if [arn.rpartition(":")[2] for arn in allowed] != [name]:
            yield f"{name}-dlq accepts others than {name}"


@rule
def messages_are_encrypted_and_travel_over_tls(template: Template) -> Iterator[str]:
    stack = Stack(template)
    denied = tls_only(stack)
    for name, resource in stack.resources("AWS::SQS::Queue").items():
        if resource["Properties"].get("SqsManagedSseEnabled") is not True:
            yield f"{name} is not encrypted"
        if stack.resolve({"Fn::GetAtt": [name, "Arn"]}) not in denied:
            yield f"{name} may be used without TLS"
    for name in ("EventsTopic", "ControlTopic"):
        if stack.properties(name).get("KmsMasterKeyId") != "alias/aws/sns":
            yield f"{name} is not encrypted"
        if stack.resolve({"Ref": name}) not in denied:
            yield f"{name} may be used without TLS"
