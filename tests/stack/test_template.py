"""The stack's template keeps every rule, and each rule notices what it is there for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.stack.iam import grants
from tests.stack.rules import RULES
from tests.stack.template import Stack, load, whole

Template = dict[str, Any]


@pytest.fixture(scope="module")
def template() -> Template:
    return whole()


@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str, template: Template) -> None:
    assert list(RULES[name](template)) == []


def _drop(*path: str | int) -> Callable[[Template], None]:
    def mutate(template: Template) -> None:
        place: Any = template
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return mutate


def _set(value: Any, *path: str | int) -> Callable[[Template], None]:
    def mutate(template: Template) -> None:
        place: Any = template
        for step in path[:-1]:
            place = place[step]
        assert place[path[-1]] != value, "the mutation changes nothing"
        place[path[-1]] = value

    return mutate


def _without_statement(sid: str, *path: str | int) -> Callable[[Template], None]:
    def mutate(template: Template) -> None:
        place: Any = template
        for step in path:
            place = place[step]
        kept = [statement for statement in place["Statement"] if statement.get("Sid") != sid]
        assert len(kept) == len(place["Statement"]) - 1
        place["Statement"] = kept

    return mutate


def _in_statement(sid: str, value: Any, field: str, *path: str | int) -> Callable[[Template], None]:
    """Sets a field of the statement with this Sid, wherever below the path it stands."""

    def mutate(template: Template) -> None:
        place: Any = template
        for step in path:
            place = place[step]
        (statement,) = (found for found in _dicts(place) if found.get("Sid") == sid)
        assert statement[field] != value, "the mutation changes nothing"
        if value is None:
            del statement[field]
        else:
            statement[field] = value

    return mutate


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(item)


def _properties(name: str, *path: str | int) -> tuple[str | int, ...]:
    return ("Resources", name, "Properties", *path)


def _container(name: str, *path: str | int) -> tuple[str | int, ...]:
    return _properties(name, "ContainerDefinitions", 0, *path)


_ENCRYPTION = _properties("InputBucket", "BucketEncryption", "ServerSideEncryptionConfiguration", 0)
_WORKER_POLICY = _properties("WorkerRole", "Policies", 0, "PolicyDocument")
_TRACKING = _properties("WorkerTracking", "TargetTrackingScalingPolicyConfiguration")
_METRICS = (*_TRACKING, "CustomizedMetricSpecification", "Metrics")


def _events_for_nobody(template: Template) -> None:
    variables = template["Resources"]["WorkerTask"]["Properties"]["ContainerDefinitions"][0]["Environment"]
    (place,) = (number for number, entry in enumerate(variables) if "Fn::If" in entry)
    variables[place] = variables[place]["Fn::If"][1]


#: What is done to the template, and the rule that must notice.
MUTATIONS: dict[str, tuple[Callable[[Template], None], str]] = {
    "notification dropped": (_drop(*_properties("InputBucket", "NotificationConfiguration")), "uploads_become_events"),
    "notification to another queue": (
        _set(
            {"Fn::GetAtt": ["TasksQueue", "Arn"]},
            *_properties("InputBucket", "NotificationConfiguration", "QueueConfigurations", 0, "Queue"),
        ),
        "uploads_become_events",
    ),
    "bucket made before the queue's policy": (_drop("Resources", "InputBucket", "DependsOn"), "uploads_become_events"),
    "any bucket may send": (
        _in_statement(
            "EventsOfTheInputBucket",
            {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
            "Condition",
            *_properties("EventsQueuePolicy"),
        ),
        "uploads_become_events",
    ),
    "any account may send": (
        _in_statement("EventsOfTheInputBucket", {"ArnEquals": {}}, "Condition", *_properties("EventsQueuePolicy")),
        "uploads_become_events",
    ),
    "policy for S3 dropped": (
        _drop(*_properties("EventsQueuePolicy", "PolicyDocument", "Statement", 0)),
        "uploads_become_events",
    ),
    "queue usable without TLS": (
        _without_statement("OnlyTls", *_properties("TasksQueuePolicy", "PolicyDocument")),
        "messages_are_encrypted_and_travel_over_tls",
    ),
    "queue not encrypted": (
        _drop(*_properties("TasksQueue", "SqsManagedSseEnabled")),
        "messages_are_encrypted_and_travel_over_tls",
    ),
    "topic not encrypted": (
        _drop(*_properties("EventsTopic", "KmsMasterKeyId")),
        "messages_are_encrypted_and_travel_over_tls",
    ),
    "bucket usable without TLS": (
        _drop(*_properties("InputBucketPolicy", "PolicyDocument", "Statement", 0, "Condition")),
        "buckets_are_private_and_kept",
    ),
    "bucket public": (
        _set(False, *_properties("OutputBucket", "PublicAccessBlockConfiguration", "BlockPublicPolicy")),
        "buckets_are_private_and_kept",
    ),
    "bucket deleted with the stack": (
        _drop("Resources", "OutputBucket", "DeletionPolicy"),
        "buckets_are_private_and_kept",
    ),
    "dead-letter queue unwired": (
        _drop(*_properties("TasksQueue", "RedrivePolicy")),
        "every_queue_has_its_dead_letters",
    ),
    "dead letters of both in one queue": (
        _set(
            {"Fn::GetAtt": ["EventsDeadLetters", "Arn"]},
            *_properties("TasksQueue", "RedrivePolicy", "deadLetterTargetArn"),
        ),
        "every_queue_has_its_dead_letters",
    ),
    "two lost workers are enough": (
        _set(2, *_properties("TasksQueue", "RedrivePolicy", "maxReceiveCount")),
        "every_queue_has_its_dead_letters",
    ),
    "dead letters expire first": (
        _set(604800, *_properties("EventsDeadLetters", "MessageRetentionPeriod")),
        "every_queue_has_its_dead_letters",
    ),
    "queue misnamed": (_set("tasks", *_properties("TasksQueue", "QueueName")), "queues_are_named_as_the_code_expects"),
    "rule for other events": (
        _set(["Object Created"], *_properties("UploadsRule", "EventPattern", "detail-type")),
        "uploads_become_events",
    ),
    "rule for every bucket": (
        _drop(*_properties("UploadsRule", "EventPattern", "detail", "bucket")),
        "uploads_become_events",
    ),
    "rule for every key": (
        _drop(*_properties("UploadsRule", "EventPattern", "detail", "object")),
        "uploads_become_events",
    ),
    "undelivered events dropped": (
        _drop(*_properties("UploadsRule", "Targets", 0, "DeadLetterConfig")),
        "uploads_become_events",
    ),
    "any rule may send": (
        _in_statement("EventsOfTheRule", {"ArnEquals": {}}, "Condition", *_properties("EventsQueuePolicy")),
        "uploads_become_events",
    ),
    "undelivered events refused": (
        _drop(*_properties("EventsDeadLettersPolicy", "PolicyDocument", "Statement", 0)),
        "uploads_become_events",
    ),
    "events before the right to read": (
        _set(["EventsQueuePolicy", "EventsDeadLettersPolicy"], "Resources", "UploadsRule", "DependsOn"),
        "uploads_become_events",
    ),
    "bucket made beside an existing one": (_drop("Resources", "InputBucket", "Condition"), "uploads_become_events"),
    "key of the uploads not used": (
        _set("ScaleInWhenIdle", *_ENCRYPTION, "Fn::If", 0),
        "buckets_take_the_keys_that_are_given",
    ),
    "worker is told another bucket": (
        _set({"Ref": "OutputBucket"}, *_container("WorkerTask", "Environment", 2, "Value")),
        "containers_are_told_the_buckets",
    ),
    "events of any account": (
        _drop(*_properties("UploadsRule", "EventPattern", "account")),
        "uploads_become_events",
    ),
    "worker writes beside the prefix": (
        _drop(*_container("WorkerTask", "Environment", -1)),
        "containers_are_told_the_buckets",
    ),
    "pages of any origin": (
        _drop(*_properties("InputBucket", "CorsConfiguration")),
        "browsers_and_cloudfront_get_what_they_need_and_no_more",
    ),
    "CloudFront reads failure records": (
        _in_statement(
            "Distribution", {"Fn::Sub": "${OutputBucket.Arn}/*"}, "Resource", *_properties("OutputBucketPolicy")
        ),
        "browsers_and_cloudfront_get_what_they_need_and_no_more",
    ),
    "any distribution reads": (
        _in_statement("Distribution", {}, "Condition", *_properties("OutputBucketPolicy")),
        "browsers_and_cloudfront_get_what_they_need_and_no_more",
    ),
    "role out of bounds": (
        _drop(*_properties("FlowerRole", "PermissionsBoundary")),
        "roles_are_bounded_as_the_account_wants",
    ),
    "existing buckets may be written": (
        _in_statement("ReadObjects", ["s3:GetObject", "s3:PutObject"], "Action", *_properties("ReadExistingInputs")),
        "existing_buckets_and_keys_are_granted_and_no_others",
    ),
    "existing buckets can't be read": (
        lambda t: t["Resources"]["ReadExistingInputs"]["Properties"].update(Roles=[]),
        "existing_buckets_and_keys_are_granted_and_no_others",
    ),
    "only the first of the existing buckets": (
        _in_statement(
            "ReadObjects",
            {"Fn::Sub": ["arn:aws:s3:::${B}/*", {"B": {"Fn::Select": [0, {"Ref": "ExistingInputBuckets"}]}}]},
            "Resource",
            *_properties("ReadExistingInputs"),
        ),
        "existing_buckets_and_keys_are_granted_and_no_others",
    ),
    "key of the renditions not granted": (
        _in_statement("OutputKey", "kms:Decrypt", "Action", *_WORKER_POLICY),
        "existing_buckets_and_keys_are_granted_and_no_others",
    ),
    "all of an existing bucket written": (
        _in_statement(
            "KeepOutput",
            {"Fn::Sub": "arn:${AWS::Partition}:s3:::${ExistingOutputBucket}/*"},
            "Resource",
            *_WORKER_POLICY,
        ),
        "existing_buckets_and_keys_are_granted_and_no_others",
    ),
    "every flower repairs": (
        _drop("Resources", "FlowerRepair", "Condition"),
        "only_a_flower_that_repairs_reads_objects_and_sends_messages",
    ),
    "no flower repairs": (
        _drop("Resources", "FlowerRepair"),
        "only_a_flower_that_repairs_reads_objects_and_sends_messages",
    ),
    "events without a reader": (
        _drop("Resources", "WorkerEvents", "Condition"),
        "without_flower_nobody_sends_what_nobody_reads",
    ),
    "topics without a reader": (
        _drop("Resources", "EventsTopic", "Condition"),
        "without_flower_nobody_sends_what_nobody_reads",
    ),
    "events sent for nobody": (
        _events_for_nobody,
        "without_flower_nobody_sends_what_nobody_reads",
    ),
    "no login to the registry": (
        _drop(*_container("BridgeTask", "RepositoryCredentials")),
        "secrets_are_for_the_execution_role_alone",
    ),
    "settings not passed on": (
        _set("PIPELINE_OPTIONS", *_container("WorkerTask", "Environment", 10, "Name")),
        "every_setting_can_be_given",
    ),
    "settings that can't be written": (
        _set("[A-Z=0-9]*", "Parameters", "Settings", "AllowedPattern"),
        "every_setting_can_be_given",
    ),
    "no workers, and nobody told": (_drop("Resources", "NoWorkersAlarm"), "workers_that_can_not_start_are_told"),
    "long tasks taken for no workers": (
        _set(
            "IF(FILL(taken, 0) + 0 * inflight < 1, visible, 0)",
            *_properties("NoWorkersAlarm", "Metrics", 0, "Expression"),
        ),
        "workers_that_can_not_start_are_told",
    ),
    "no workers for hours": (
        _set(120, *_properties("NoWorkersAlarm", "EvaluationPeriods")),
        "workers_that_can_not_start_are_told",
    ),
    # These are what the template once had, and what AWS would have refused.
    "one policy for several queues": (
        _set([{"Ref": "TasksQueue"}, {"Ref": "EventsDeadLetters"}], *_properties("TasksQueuePolicy", "Queues")),
        "sqs_accepts_the_queues_policies",
    ),
    "several queues in a statement": (
        _set(
            [{"Fn::GetAtt": ["TasksQueue", "Arn"]}, {"Fn::GetAtt": ["TasksDeadLetters", "Arn"]}],
            *_properties("TasksQueuePolicy", "PolicyDocument", "Statement", 0, "Resource"),
        ),
        "sqs_accepts_the_queues_policies",
    ),
    "another queue in a statement": (
        _set(
            {"Fn::GetAtt": ["TasksDeadLetters", "Arn"]},
            *_properties("TasksQueuePolicy", "PolicyDocument", "Statement", 0, "Resource"),
        ),
        "sqs_accepts_the_queues_policies",
    ),
    "eight actions in a statement": (
        _set(
            [f"sqs:Action{number}" for number in range(8)],
            *_properties("TasksQueuePolicy", "PolicyDocument", "Statement", 0, "Action"),
        ),
        "sqs_accepts_the_queues_policies",
    ),
    "action of another service on a queue": (
        _set("*", *_properties("TasksQueuePolicy", "PolicyDocument", "Statement", 0, "Action")),
        "sqs_accepts_the_queues_policies",
    ),
    "two policies of a queue": (
        _set([{"Ref": "EventsQueue"}], *_properties("TasksQueuePolicy", "Queues")),
        "sqs_accepts_the_queues_policies",
    ),
    "one policy for both topics": (
        _set([{"Ref": "EventsTopic"}, {"Ref": "ControlTopic"}], *_properties("EventsTopicPolicy", "Topics")),
        "sns_accepts_the_topics_policies",
    ),
    "both topics in a statement": (
        _set(
            [{"Ref": "EventsTopic"}, {"Ref": "ControlTopic"}],
            *_properties("EventsTopicPolicy", "PolicyDocument", "Statement", 0, "Resource"),
        ),
        "sns_accepts_the_topics_policies",
    ),
    "all of SNS in a topic's policy": (
        _set("sns:*", *_properties("EventsTopicPolicy", "PolicyDocument", "Statement", 0, "Action")),
        "sns_accepts_the_topics_policies",
    ),
    "a Sid twice": (
        _set("TakeTasks", *_WORKER_POLICY, "Statement", 1, "Sid"),
        "iam_and_s3_accept_the_policies",
    ),
    "a role's policies too large": (
        _in_statement("ReadInput", [f"arn:aws:s3:::b{number}/*" for number in range(500)], "Resource", *_WORKER_POLICY),
        "iam_and_s3_accept_the_policies",
    ),
    "dashboard in the services' domain": (
        _set(
            {"Fn::Sub": "https://${AWS::Region}.console.${AWS::URLSuffix}/cloudwatch/home?region=${AWS::Region}"},
            "Outputs",
            "DashboardUrl",
            "Value",
        ),
        "dashboard_is_where_the_console_is",
    ),
    "role for any service": (
        _set(
            {"Service": "ec2.amazonaws.com"},
            *_properties("WorkerRole", "AssumeRolePolicyDocument", "Statement", 0, "Principal"),
        ),
        "roles_belong_to_this_accounts_tasks",
    ),
    "role without its account": (
        _drop(*_properties("BridgeRole", "AssumeRolePolicyDocument", "Statement", 0, "Condition")),
        "roles_belong_to_this_accounts_tasks",
    ),
    "action on everything": (
        _in_statement("ReadInput", "*", "Resource", *_WORKER_POLICY),
        "every_action_has_its_resource",
    ),
    "own tasks not allowed to write": (
        _in_statement("KeepOwn", ["s3:GetObject"], "Action", *_WORKER_POLICY),
        "own_tasks_have_their_folder_and_no_more",
    ),
    "own tasks allowed without being asked for": (
        _in_statement("KeepOutput", {"Fn::Sub": "${OutputBucket.Arn}/*"}, "Resource", *_WORKER_POLICY),
        "own_tasks_have_their_folder_and_no_more",
    ),
    "no folders for further renditions": (
        _in_statement(
            "KeepOutput",
            [{"Fn::Sub": f"${{OutputBucket.Arn}}/${{OutputPrefix}}{folder}/*"} for folder in ("resized", "failed")],
            "Resource",
            *_WORKER_POLICY,
        ),
        "further_renditions_have_their_folders_and_no_more",
    ),
    "bridge not told of further renditions": (
        _set("", *_container("BridgeTask", "Environment", -2, "Value")),
        "further_renditions_have_their_folders_and_no_more",
    ),
    "bridge may not look inside": (
        _in_statement("LookInside", [{"Fn::Sub": "${InputBucket.Arn}/*"}], "Resource", *_properties("BridgeRole")),
        "own_tasks_have_their_folder_and_no_more",
    ),
    "all actions": (_in_statement("ReadInput", "s3:*", "Action", *_WORKER_POLICY), "every_action_has_its_resource"),
    "protection not permitted": (
        _without_statement("ProtectFromScaleIn", *_WORKER_POLICY),
        "busy_workers_are_protected",
    ),
    "zones rebalanced": (
        _drop(*_properties("WorkerService", "AvailabilityZoneRebalancing")),
        "busy_workers_are_protected",
    ),
    "secret for the worker": (
        _in_statement("ReadInput", "secretsmanager:GetSecretValue", "Action", *_WORKER_POLICY),
        "secrets_are_for_the_execution_role_alone",
    ),
    "root user": (_drop(*_container("WorkerTask", "User")), "containers_are_locked_down"),
    "writable root": (_set(False, *_container("WorkerTask", "ReadonlyRootFilesystem")), "containers_are_locked_down"),
    "capabilities kept": (
        _drop(*_container("BridgeTask", "LinuxParameters", "Capabilities")),
        "containers_are_locked_down",
    ),
    "no scratch space": (_drop(*_container("WorkerTask", "LinuxParameters", "Tmpfs")), "containers_are_locked_down"),
    "no health check": (_drop(*_container("FlowerTask", "HealthCheck")), "containers_are_locked_down"),
    "health check that loads all of it": (
        _set(
            ["CMD", "python", "-m", "pipeline", "health", "worker"], *_container("WorkerTask", "HealthCheck", "Command")
        ),
        "health_checks_are_cheap_and_patient",
    ),
    "killed for one late answer": (
        _set(1, *_container("WorkerTask", "HealthCheck", "Retries")),
        "health_checks_are_cheap_and_patient",
    ),
    "health check more seldom than ECS takes": (
        _set(600, *_container("BridgeTask", "HealthCheck", "Interval")),
        "health_checks_are_cheap_and_patient",
    ),
    "hangs for long": (
        _set(10, *_container("BridgeTask", "HealthCheck", "Retries")),
        "health_checks_are_cheap_and_patient",
    ),
    "other command": (_set("celery", *_container("WorkerTask", "Command", 0)), "containers_run_our_commands"),
    "stop timeout beyond Fargate's": (_set(300, *_container("WorkerTask", "StopTimeout")), "stops_are_graceful"),
    "stop timeout of the bridge dropped": (_drop(*_container("BridgeTask", "StopTimeout")), "stops_are_graceful"),
    "visibility below the workers' own": (
        _set(30, *_properties("TasksQueue", "VisibilityTimeout")),
        "messages_stay_hidden_while_they_are_worked_on",
    ),
    "visibility of a moment": (
        _set(5, *_properties("EventsQueue", "VisibilityTimeout")),
        "messages_stay_hidden_while_they_are_worked_on",
    ),
    "unknown setting": (
        _set("RESIZE_BOXES", *_container("WorkerTask", "Environment", 3, "Name")),
        "settings_exist_and_defaults_agree",
    ),
    "other default": (_set("640x480", "Parameters", "ResizeBox", "Default"), "settings_exist_and_defaults_agree"),
    "other time limit": (_set(600, "Parameters", "HardTimeLimit", "Default"), "settings_exist_and_defaults_agree"),
    "other bound": (_set(99999, "Parameters", "HardTimeLimit", "MaxValue"), "limits_are_the_settings_limits"),
    "other prefix": (
        _set("x-", *_container("BridgeTask", "Environment", 0, "Value")),
        "settings_exist_and_defaults_agree",
    ),
    "desired count": (
        lambda t: t["Resources"]["WorkerService"]["Properties"].update(DesiredCount=1),
        "updates_keep_the_count",
    ),
    "no rollback": (
        _set(False, *_properties("WorkerService", "DeploymentConfiguration", "DeploymentCircuitBreaker", "Rollback")),
        "deployments_roll_back",
    ),
    "launch type": (
        lambda t: t["Resources"]["WorkerService"]["Properties"].update(LaunchType="FARGATE"),
        "capacity_comes_from_providers_of_the_cluster",
    ),
    "provider unknown to the cluster": (
        _set(["FARGATE"], *_properties("Cluster", "CapacityProviders")),
        "capacity_comes_from_providers_of_the_cluster",
    ),
    "bridge on Spot": (
        _set("FARGATE_SPOT", *_properties("BridgeService", "CapacityProviderStrategy", 0, "CapacityProvider")),
        "capacity_comes_from_providers_of_the_cluster",
    ),
    "minimum above maximum": (_set(50, "Parameters", "MinWorkers", "Default"), "minimum_is_below_maximum"),
    "wrong metric in scaling": (
        _set("ApproximateNumberOfMessages", *_METRICS, 0, "MetricStat", "Metric", "MetricName"),
        "queries_name_metrics_that_exist",
    ),
    "metric of another queue": (
        _set("other", *_METRICS, 0, "MetricStat", "Metric", "Dimensions", 0, "Value"),
        "queries_name_metrics_that_exist",
    ),
    "wrong metric in an alarm": (
        _set("OldestMessage", *_properties("OldestEventAlarm", "MetricName")),
        "queries_name_metrics_that_exist",
    ),
    "wrong metric on the dashboard": (
        lambda t: t["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].__setitem__(
            0,
            t["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"][0].replace(
                "NumberOfMessagesSent", "MessagesSent"
            ),
        ),
        "queries_name_metrics_that_exist",
    ),
    "wrong filter": (
        _set("Failures", *_properties("FailureRecords", "MetricTransformations", 0, "MetricName")),
        "queries_name_metrics_that_exist",
    ),
    "two results": (_set(True, *_METRICS, 0, "ReturnData"), "expressions_can_be_computed"),
    "bad expression": (
        _set("(visible + inflight / running", *_METRICS, 3, "Expression"),
        "expressions_can_be_computed",
    ),
    "unknown name": (_set("visible / workers", *_METRICS, 3, "Expression"), "expressions_can_be_computed"),
    "unknown function": (
        _set("visible + FILLED(inflight, 0) / running", *_METRICS, 3, "Expression"),
        "expressions_can_be_computed",
    ),
    "metric beside Metrics": (
        lambda t: t["Resources"]["WorkerTracking"]["Properties"]["TargetTrackingScalingPolicyConfiguration"][
            "CustomizedMetricSpecification"
        ].update(MetricName="CPUUtilization"),
        "expressions_can_be_computed",
    ),
    "running tasks not counted": (
        _set("visible / FILL(running, REPEAT) + 0 * inflight + 0 * FILL(asked, 0)", *_METRICS, 3, "Expression"),
        "workers_follow_the_backlog",
    ),
    "late count taken as none": (
        _set(
            "(visible + FILL(inflight, 0)) / (FILL(running, 0) + 0.001) + 0 * FILL(asked, 0)",
            *_METRICS,
            3,
            "Expression",
        ),
        "workers_follow_the_backlog",
    ),
    "average CPU taken for a count": (
        _set("Average", *_METRICS, 2, "MetricStat", "Stat"),
        "workers_follow_the_backlog",
    ),
    "ten messages to wake": (_set(10, *_properties("WorkerWakeAlarm", "Threshold")), "the_first_task_wakes_a_worker"),
    "wake alarm without action": (
        _set([{"Ref": "AlarmTopic"}], *_properties("WorkerWakeAlarm", "AlarmActions")),
        "the_first_task_wakes_a_worker",
    ),
    "wake while workers listen": (
        _set(
            "IF(FILL(taken, 0) + 0 * FILL(asked, 0) + FILL(inflight, 0) < 1, CEIL(visible / 4000), 0)",
            *_properties("WorkerWakeAlarm", "Metrics", 0, "Expression"),
        ),
        "the_first_task_wakes_a_worker",
    ),
    "wake sets the count": (
        _set("ExactCapacity", *_properties("WorkerWake", "StepScalingPolicyConfiguration", "AdjustmentType")),
        "the_first_task_wakes_a_worker",
    ),
    "idle mode stops by target": (_set(False, *_TRACKING, "DisableScaleIn"), "idle_mode_never_stops_a_busy_worker"),
    "target mode never stops": (_set(True, *_TRACKING, "DisableScaleIn"), "idle_mode_never_stops_a_busy_worker"),
    "idle mode ignores what runs": (
        _set(
            "IF(FILL(asked, 0) > 0, visible + 0 * FILL(inflight, 0), 1)",
            *_properties("WorkerRestAlarm", "Metrics", 0, "Expression"),
        ),
        "idle_mode_never_stops_a_busy_worker",
    ),
    "rest while nobody is there": (
        _set(
            "visible + FILL(inflight, 0) + 0 * FILL(asked, 0)",
            *_properties("WorkerRestAlarm", "Metrics", 0, "Expression"),
        ),
        "nothing_stops_the_workers_that_the_bridge_wakes",
    ),
    "the last hour counts for what is woken": (
        _set("0 * FILL(asked, 0) + (visible + FILL(inflight, 0)) / FILL(running, REPEAT)", *_METRICS, 3, "Expression"),
        "workers_follow_the_backlog",
    ),
    "bridge sets another alarm": (
        _set("photos-rest", *_container("BridgeTask", "Environment", 4, "Value")),
        "the_bridge_may_wake_workers_and_do_nothing_else_to_them",
    ),
    "bridge may set any alarm": (
        _in_statement("WakeWorkers", "*", "Resource", *_properties("BridgeRole")),
        "the_bridge_may_wake_workers_and_do_nothing_else_to_them",
    ),
    "bridge may update services": (
        _in_statement("WakeWorkers", "ecs:UpdateService", "Action", *_properties("BridgeRole")),
        "the_bridge_may_wake_workers_and_do_nothing_else_to_them",
    ),
    "a large backlog wakes one": (
        _set(
            [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            *_properties("WorkerWake", "StepScalingPolicyConfiguration", "StepAdjustments"),
        ),
        "the_first_task_wakes_a_worker",
    ),
    "rest alarm at the bound of its step": (
        _set("LessThanOrEqualToThreshold", *_properties("WorkerRestAlarm", "ComparisonOperator")),
        "idle_mode_never_stops_a_busy_worker",
    ),
    "alarm without advice": (
        _set("Something is wrong.", *_properties("TasksDeadLettersAlarm", "AlarmDescription")),
        "alarms_say_what_to_do",
    ),
    "alarm without entry in the runbook": (
        _set("x. Do: y. docs/runbook.md#no-such-entry", *_properties("BridgeAlarm", "AlarmDescription")),
        "alarms_say_what_to_do",
    ),
    "alarm that tells nobody": (
        _set([], *_properties("OldestEventAlarm", "AlarmActions")),
        "what_matters_has_an_alarm",
    ),
    "absent bridge taken as well": (
        _set("notBreaching", *_properties("BridgeAlarm", "TreatMissingData")),
        "what_matters_has_an_alarm",
    ),
    "Flower without a password": (_drop(*_container("FlowerTask", "Secrets")), "flower_is_not_public"),
    "half a load balancer": (_drop("Rules", "FlowerBehindItsBalancer"), "flower_is_not_public"),
    "port-forward not told": (_drop("Outputs", "FlowerPortForward"), "flower_is_not_public"),
    "Flower open to all": (
        lambda t: t["Resources"]["SecurityGroup"]["Properties"].update(
            SecurityGroupIngress=[{"IpProtocol": "tcp", "FromPort": 5555, "ToPort": 5555, "CidrIp": "0.0.0.0/0"}]
        ),
        "flower_is_not_public",
    ),
    "parameter without a group": (
        lambda t: t["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"].pop(),
        "parameters_are_grouped_and_described",
    ),
    "parameter without a default": (
        _drop("Parameters", "MaxWorkers", "Default"),
        "only_image_and_network_must_be_given",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_is_noticed(mutation: str, template: Template) -> None:
    mutate, rule = MUTATIONS[mutation]
    broken = copy.deepcopy(template)
    mutate(broken)
    assert list(RULES[rule](broken)) != []


def test_every_rule_has_a_mutation() -> None:
    noticed = {rule for _, rule in MUTATIONS.values()}
    assert set(RULES) - noticed == {"fits_without_a_bucket"}  # it reads the file's size


COGNITO = {"CognitoUserPoolArn": "arn:aws:cognito-idp:us-east-1:123456789012:userpool/1"}
OIDC = {"OidcIssuer": "https://login.example.com"}


@pytest.mark.parametrize(("login", "kind"), [(COGNITO, "authenticate-cognito"), (OIDC, "authenticate-oidc")])
def test_load_balancer_asks_for_a_login_before_it_forwards(login: dict[str, str], kind: str) -> None:
    stack = Stack(load("flower.yaml"), login)
    listener = stack.properties("Listener")
    assert (listener["Protocol"], len(listener["Certificates"])) == ("HTTPS", 1)
    assert [action["Type"] for action in listener["DefaultActions"]] == [kind, "forward"]
    assert [action["Order"] for action in listener["DefaultActions"]] == [1, 2]


@pytest.mark.parametrize(("login", "allowed"), [({}, False), (COGNITO, True), (OIDC, True), (COGNITO | OIDC, False)])
def test_load_balancer_is_refused_without_exactly_one_login(login: dict[str, str], allowed: bool) -> None:
    stack = Stack(load("flower.yaml"), login)
    (assertion,) = stack.template["Rules"]["OneLogin"]["Assertions"]
    assert stack.resolve(assertion["Assert"]) is allowed


def test_private_network_has_an_endpoint_for_every_service_that_the_containers_call() -> None:
    endpoints = Stack(load("network.yaml")).resources("AWS::EC2::VPCEndpoint").values()
    services = {
        endpoint["Properties"]["ServiceName"].removeprefix("com.amazonaws.us-east-1.") for endpoint in endpoints
    }
    called = {
        grant.action.partition(":")[0]
        for role in ("ExecutionRole", "BridgeRole", "WorkerRole", "FlowerRole")
        for grant in grants(Stack(load()), role)
    }
    # IAM's name → the endpoints'. The scale-in protection is asked of the agent, which Fargate connects by itself.
    endpoints_of = {"cloudwatch": {"monitoring"}, "ecr": {"ecr.api", "ecr.dkr"}, "ecs": set()}
    assert services == set().union(*(endpoints_of.get(name, {name}) for name in called))


def test_registry_counts_images_and_not_their_parts() -> None:
    lifecycle = Stack(load("ecr.yaml"), {"KeepImages": 7}).properties("Repository")["LifecyclePolicy"]
    rules = [rule["selection"] for rule in json.loads(lifecycle["LifecyclePolicyText"])["rules"]]
    assert [(rule["tagStatus"], rule["countType"]) for rule in rules] == [
        ("tagged", "imageCountMoreThan"),
        ("untagged", "sinceImagePushed"),
    ]
    assert (rules[0]["countNumber"], rules[0]["tagPatternList"]) == (7, ["*"])


def test_cloudfront_signs_its_requests_and_serves_only_what_browsers_may_see() -> None:
    stack = Stack(load("cdn.yaml"), {"OutputBucketName": "photos-output"})
    config = stack.properties("Distribution")["DistributionConfig"]
    (origin,) = config["Origins"]
    assert (origin["DomainName"], origin["OriginAccessControlId"]) == (
        "photos-output.s3.us-east-1.amazonaws.com",
        "AccessControl",
    )
    control = stack.properties("AccessControl")["OriginAccessControlConfig"]
    assert (control["SigningBehavior"], control["SigningProtocol"]) == ("always", "sigv4")
    assert config["DefaultCacheBehavior"]["ViewerProtocolPolicy"] == "redirect-to-https"
    assert set(config["DefaultCacheBehavior"]["AllowedMethods"]) <= {"GET", "HEAD", "OPTIONS"}
    # What is not there yet must not be remembered as missing.
    assert {(entry["ErrorCode"], entry["ErrorCachingMinTTL"]) for entry in config["CustomErrorResponses"]} == {
        (403, 5),
        (404, 5),
    }
    caching = stack.properties("Caching")["CachePolicyConfig"]
    assert (caching["MinTTL"], caching["DefaultTTL"]) == (0, 300)  # a rendition's own header is obeyed


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, True),
        ({"Domain": "a.example", "CertificateArn": "arn:aws:acm:us-east-1:1:certificate/1"}, True),
        ({"Domain": "a.example"}, False),
        ({"CertificateArn": "arn:aws:acm:us-east-1:1:certificate/1"}, False),
    ],
)
def test_a_name_of_the_distribution_needs_its_certificate(given: dict[str, str], allowed: bool) -> None:
    stack = Stack(load("cdn.yaml"), given)
    (assertion,) = stack.template["Rules"]["NameWithItsCertificate"]["Assertions"]
    assert stack.resolve(assertion["Assert"]) is allowed


def test_outputs_of_the_optional_templates_are_parameters_of_the_stack(template: Template) -> None:
    for name, offered in {
        "network.yaml": {"VpcId", "SubnetIds", "AssignPublicIp"},
        "flower.yaml": {"FlowerTargetGroupArn", "FlowerBalancerGroupId"},
        "cdn.yaml": {"DistributionArn"},
    }.items():
        assert offered <= set(load(name)["Outputs"])
        assert offered <= set(template["Parameters"])
