"""What must hold for ``batch.yaml`` beyond what cfn-lint and checkov know; each rule names what breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.metric_math import ExpressionError, evaluate, names
from pipeline.config import Settings
from tests.stack.iam import as_list, grants
from tests.stack.template import FOLDER, Stack, of_type

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]

RULES: dict[str, Rule] = {}

#: A template up to this many bytes needs no bucket to be uploaded to.
MAX_TEMPLATE_BYTES = 51_200
#: The longest that Fargate waits between SIGTERM and SIGKILL.
MAX_STOP_TIMEOUT_S = 120
#: Deliveries before the dead-letter queue; each worker that is lost counts, so fewer would be unfair.
MIN_RECEIVES = 5

#: Metrics that AWS publishes, and the dimensions that they are published under. Sources:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
#: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html
_SQS_METRICS = {
    "ApproximateAgeOfOldestMessage",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesVisible",
    "NumberOfEmptyReceives",
    "NumberOfMessagesDeleted",
    "NumberOfMessagesReceived",
    "NumberOfMessagesSent",
}
_ECS_METRICS = {"CPUUtilization", "MemoryUtilization"}

#: Settings that the template sets from one of its parameters; their defaults must agree.
PARAMETER_OF_SETTING = {
    "KEY_PREFIX": "KeyPrefix",
    "RESIZE_BOX": "ResizeBox",
    "THUMB_BOX": "ThumbBox",
    "SOFT_TIME_LIMIT_S": "SoftTimeLimit",
    "HARD_TIME_LIMIT_S": "HardTimeLimit",
    "METRICS_NAMESPACE": "MetricsNamespace",
}
#: Variables that are not settings of ours: whose they are.
FOREIGN_VARIABLES = {"AWS_DEFAULT_REGION": "boto3", "FLOWER_BASIC_AUTH": "Flower"}

#: Actions that IAM can't narrow to a resource. Source: the service authorization reference.
WITHOUT_RESOURCE = {
    "cloudwatch:GetMetricData",
    "ecr:GetAuthorizationToken",
    "sns:Unsubscribe",
    "sqs:ListQueues",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def variants(template: Template) -> list[Stack]:
    """The template under parameters that switch every condition both ways."""
    balanced = {
        "FlowerTargetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/photos/1",
        "FlowerBalancerGroupId": "sg-1",
    }
    return [
        Stack(template),
        Stack(template, {"ScaleIn": "idle", "MinWorkers": 1, "KeyPrefix": "in/", "AlarmEmail": "a@example.com"}),
        Stack(template, {"InputBucketName": "my-input", "OutputBucketName": "my-output", "OnDemandWeight": 0}),
        Stack(template, balanced),
        Stack(template, {"Flower": "no", "SpotWeight": 0}),
    ]


# --- parameters and size


@rule
def fits_without_a_bucket(_: Template) -> Iterator[str]:
    size = (FOLDER / "batch.yaml").stat().st_size
    if size > MAX_TEMPLATE_BYTES:
        yield f"the template has {size} bytes; {MAX_TEMPLATE_BYTES} can be sent inline"


@rule
def only_image_and_network_must_be_given(template: Template) -> Iterator[str]:
    needed = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
    if needed != {"Image", "VpcId", "SubnetIds"}:
        yield f"parameters without a default: {sorted(needed)}"


@rule
def parameters_are_grouped_and_described(template: Template) -> Iterator[str]:
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    if sorted(grouped) != sorted(template["Parameters"]):
        yield f"not in exactly one group: {set(grouped) ^ set(template['Parameters'])}"
    for name, parameter in template["Parameters"].items():
        if len(parameter.get("Description", "")) < 10:
            yield f"{name} has no description"


# --- storage


@rule
def buckets_are_private_and_kept(template: Template) -> Iterator[str]:
    for stack in variants(template):
        denied = _tls_only(stack)
        for name, resource in stack.resources("AWS::S3::Bucket").items():
            properties = resource["Properties"]
            if len(properties["BucketName"]) > 63 or not re.fullmatch(r"[a-z0-9-]+", properties["BucketName"]):
                yield f"{name}: {properties['BucketName']} is no name for a bucket"
            blocked = properties.get("PublicAccessBlockConfiguration", {})
            if len([value for value in blocked.values() if value is True]) != 4:
                yield f"{name} does not block public access"
            if {"ObjectOwnership": "BucketOwnerEnforced"} not in properties.get("OwnershipControls", {}).get(
                "Rules", []
            ):
                yield f"{name} does not enforce its owner"
            if "SSEAlgorithm" not in json.dumps(properties.get("BucketEncryption", {})):
                yield f"{name} is not encrypted"
            if (
                resource.get("DeletionPolicy") != "RetainExceptOnCreate"
                or resource.get("UpdateReplacePolicy") != "Retain"
            ):
                yield f"{name} and what is in it would be deleted with the stack, or block its deletion"
            arn = f"arn:aws:s3:::{properties['BucketName']}"
            if not {arn, f"{arn}/*"} <= denied:
                yield f"{name} may be used without TLS"


@rule
def uploads_become_events(template: Template) -> Iterator[str]:
    for stack in variants(template):
        bucket, queue = stack.resources()["InputBucket"], stack.resolve({"Fn::GetAtt": ["EventsQueue", "Arn"]})
        entries = bucket["Properties"].get("NotificationConfiguration", {}).get("QueueConfigurations", [])
        for event in ("s3:ObjectCreated:*", "s3:ObjectRemoved:*"):
            matching = [entry for entry in entries if entry["Event"] == event and entry["Queue"] == queue]
            if len(matching) != 1:
                yield f"{event} is not sent to the events queue"
            prefix = stack.parameters["KeyPrefix"]
            wanted = {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}} if prefix else None
            if any(entry.get("Filter") != wanted for entry in matching):
                yield f"{event} is not filtered by KeyPrefix"
        if "EventsQueuePolicy" not in as_list(bucket.get("DependsOn", [])):
            yield "S3 would try the queue before its policy exists"
        yield from _s3_may_send(stack, queue, bucket["Properties"]["BucketName"])


def _s3_may_send(stack: Stack, queue: str, bucket: str) -> Iterator[str]:
    statements = [
        statement
        for policy in stack.resources("AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    wanted = {
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"},
        },
    }
    if [{key: statement.get(key) for key in wanted} for statement in statements] != [wanted]:
        yield "exactly S3 must be allowed to send, for exactly this bucket of this account"


# --- messaging


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
    denied = _tls_only(stack)
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


def _tls_only(stack: Stack) -> set[str]:
    """The ARNs that nobody can use without TLS."""
    found: set[str] = set()
    kinds = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")
    policies = [policy["Properties"] for kind in kinds for policy in stack.resources(kind).values()]
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            insecure = statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            everyone = statement.get("Principal") == "*" and statement["Action"] in ("s3:*", "sqs:*", "sns:Publish")
            if statement["Effect"] == "Deny" and insecure and everyone:
                found |= set(as_list(statement["Resource"]))
    return found


# --- roles


@rule
def roles_belong_to_this_accounts_tasks(template: Template) -> Iterator[str]:
    for name, role in Stack(template).resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        condition = statement.get("Condition", {})
        if statement["Principal"] != {"Service": "ecs-tasks.amazonaws.com"}:
            yield f"{name} can be assumed by {statement['Principal']}"
        if condition.get("StringEquals") != {"aws:SourceAccount": "123456789012"} or "ArnLike" not in condition:
            yield f"{name} could be lent to another account's tasks"
        if "ManagedPolicyArns" in role["Properties"]:
            yield f"{name} has a managed policy, which grants more than is needed"


@rule
def every_action_has_its_resource(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for role in stack.resources("AWS::IAM::Role"):
        for grant in grants(stack, role):
            if "*" in grant.action:
                yield f"{role}/{grant.sid}: {grant.action} is more than one action"
            if "*" in grant.resources and grant.action not in WITHOUT_RESOURCE:
                yield f"{role}/{grant.sid}: {grant.action} on everything"


@rule
def secrets_are_for_the_execution_role_alone(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for role in stack.resources("AWS::IAM::Role"):
        readers = [grant for grant in grants(stack, role) if grant.action == "secretsmanager:GetSecretValue"]
        if bool(readers) != (role == "ExecutionRole") or any(grant.resources != ("FlowerSecret",) for grant in readers):
            yield f"{role}: access to secrets {readers}"


# --- containers


@rule
def containers_are_locked_down(template: Template) -> Iterator[str]:
    for stack in variants(template):
        services = stack.resources("AWS::ECS::Service")
        for name, task in stack.resources("AWS::ECS::TaskDefinition").items():
            (service,) = (s["Properties"] for s in services.values() if s["Properties"]["TaskDefinition"] == name)
            for container in task["Properties"]["ContainerDefinitions"]:
                linux = container.get("LinuxParameters", {})
                if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", container.get("User", "")):
                    yield f"{name} runs as root"
                if container.get("ReadonlyRootFilesystem") is service.get("EnableExecuteCommand", False):
                    yield f"{name}: the root file system is read-only if and only if ECS Exec is off"
                if linux.get("Capabilities") != {"Drop": ["ALL"]}:
                    yield f"{name} keeps capabilities"
                scratch = [mount for mount in linux.get("Tmpfs", []) if mount["ContainerPath"] == "/tmp"]  # noqa: S108
                if not scratch or "mode=1777" not in scratch[0]["MountOptions"]:
                    yield f"{name} has no scratch space that its user can write to"
                if container.get("Image") != stack.parameters["Image"]:
                    yield f"{name} does not run the image"
                if "HealthCheck" not in container:
                    yield f"{name} has no health check"
                if container["LogConfiguration"]["Options"].get("mode") != "non-blocking":
                    yield f"{name} would stand still while logs can't be delivered"


@rule
def containers_run_our_commands(template: Template) -> Iterator[str]:
    stack = Stack(template)
    wanted = {
        "BridgeTask": ["python", "-m", "bridge"],
        "WorkerTask": ["celery", "-A", "pipeline", "worker"],
        "FlowerTask": ["celery", "-A", "pipeline", "flower"],
    }
    for name, command in wanted.items():
        (container,) = stack.properties(name)["ContainerDefinitions"]
        if container["Command"][: len(command)] != command:
            yield f"{name} runs {container['Command']}"
        role = name.removesuffix("Task").lower()
        if role != "flower" and container["HealthCheck"]["Command"][1:] != ["python", "-m", "pipeline", "health", role]:
            yield f"{name} is checked by {container['HealthCheck']['Command']}"


@rule
def stops_are_graceful(template: Template) -> Iterator[str]:
    stack = Stack(template)
    for name in stack.resources("AWS::ECS::TaskDefinition"):
        for container in stack.properties(name)["ContainerDefinitions"]:
            stop_s = container.get("StopTimeout")
            if stop_s is None or stop_s > MAX_STOP_TIMEOUT_S:
                yield f"{name}: StopTimeout {stop_s}; Fargate takes up to {MAX_STOP_TIMEOUT_S}"
    stop_s = stack.properties("WorkerTask")["ContainerDefinitions"][0].get("StopTimeout", 0)
    if stop_s != MAX_STOP_TIMEOUT_S:
        yield "a worker gets less time to finish than Fargate gives"
    budget_s = Settings.from_env({}).stop_budget_s
    if not 0 < stop_s - budget_s <= 30:
        yield f"a worker takes {budget_s} s to finish and is killed after {stop_s} s"


@rule
def messages_stay_hidden_while_they_are_worked_on(template: Template) -> Iterator[str]:
    stack = Stack(template)
    settings = Settings.from_env({})
    if stack.properties("TasksQueue")["VisibilityTimeout"] != settings.message_lease_s:
        yield f"tasks: the queue's visibility is not the lease that workers renew, {settings.message_lease_s} s"
    # A bridge handles a batch of ten within some seconds, but rides out a slow broker.
    if stack.properties("EventsQueue")["VisibilityTimeout"] < 60 + settings.poll_wait_s:
        yield "events: a batch may be delivered again while the bridge still has it"


@rule
def settings_exist_and_defaults_agree(template: Template) -> Iterator[str]:
    defaults = Settings.from_env({})
    fields = {name.upper(): name for name in Settings.model_fields}
    stack = Stack(template)
    for task in stack.resources("AWS::ECS::TaskDefinition"):
        (container,) = stack.properties(task)["ContainerDefinitions"]
        variables = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
        if len(variables) != len(container["Environment"]):
            yield f"{task} sets a variable twice"
        for name, value in variables.items():
            if name not in fields and name not in FOREIGN_VARIABLES:
                yield f"{task} sets {name}, which is no setting"
            if name in PARAMETER_OF_SETTING:
                read = getattr(Settings.from_env({name: str(value)}), fields[name])
                if read != getattr(defaults, fields[name]):
                    yield f"{task}: {PARAMETER_OF_SETTING[name]} is {value} by default, the setting {name} is not"
        for secret in container.get("Secrets", []):
            if secret["Name"] not in fields and secret["Name"] not in FOREIGN_VARIABLES:
                yield f"{task} gets the secret {secret['Name']}, which is no setting"
        ours = {name: str(value) for name, value in variables.items() if name in fields}
        if Settings.from_env(ours).queue_prefix != "photos-":
            yield f"{task} works on other queues than the stack's"


@rule
def limits_are_the_settings_limits(template: Template) -> Iterator[str]:
    for variable, parameter in PARAMETER_OF_SETTING.items():
        limits = {type(item).__name__: item for item in Settings.model_fields[variable.lower()].metadata}
        declared = template["Parameters"][parameter]
        for kind, bound in (("Ge", "MinValue"), ("Le", "MaxValue")):
            if kind in limits and getattr(limits[kind], kind.lower()) != declared.get(bound):
                yield f"{parameter}: {bound} is not that of the setting {variable}"


# --- services and scaling


@rule
def updates_keep_the_count(template: Template) -> Iterator[str]:
    for name, service in of_type(template, "AWS::ECS::Service").items():
        if "DesiredCount" in service["Properties"]:
            yield f"{name}: its DesiredCount would be set again with each update of the stack"


@rule
def deployments_roll_back(template: Template) -> Iterator[str]:
    for name, service in of_type(template, "AWS::ECS::Service").items():
        breaker = service["Properties"].get("DeploymentConfiguration", {}).get("DeploymentCircuitBreaker")
        if breaker != {"Enable": True, "Rollback": True}:
            yield f"{name}: a bad image would stay"


@rule
def capacity_comes_from_providers_of_the_cluster(template: Template) -> Iterator[str]:
    for stack in variants(template):
        providers = set(stack.properties("Cluster")["CapacityProviders"])
        for name, service in stack.resources("AWS::ECS::Service").items():
            properties = service["Properties"]
            strategy = properties.get("CapacityProviderStrategy", [])
            if "LaunchType" in properties or not strategy:
                yield f"{name}: LaunchType excludes a capacity provider strategy"
            if {entry["CapacityProvider"] for entry in strategy} - providers:
                yield f"{name}: {strategy} names a provider that the cluster doesn't have"
            if not any(int(entry.get("Weight", 0)) > 0 for entry in strategy):
                yield f"{name}: every weight is 0"
            if any(int(entry.get("Base", 0)) and not int(entry.get("Weight", 0)) for entry in strategy):
                yield f"{name}: a provider with weight 0 places no tasks, not even its base"
            spot = [entry["CapacityProvider"] for entry in strategy if "SPOT" in entry["CapacityProvider"]]
            if spot and name != "WorkerService":
                yield f"{name} would be interrupted"


@rule
def minimum_is_below_maximum(template: Template) -> Iterator[str]:
    for stack in variants(template):
        for name, target in stack.resources("AWS::ApplicationAutoScaling::ScalableTarget").items():
            low, high = (int(target["Properties"][bound]) for bound in ("MinCapacity", "MaxCapacity"))
            if low > high:
                yield f"{name}: {low} to {high}"
            service = target["Properties"]["ResourceId"]
            if service not in ("service/photos/worker", "service/photos/bridge"):
                yield f"{name} scales {service}"


@rule
def queries_name_metrics_that_exist(template: Template) -> Iterator[str]:
    for stack in variants(template):
        queues = {queue["Properties"]["QueueName"] for queue in stack.resources("AWS::SQS::Queue").values()}
        services = {service["Properties"]["ServiceName"] for service in stack.resources("AWS::ECS::Service").values()}
        own = {
            transformation["MetricName"]
            for metric_filter in stack.resources("AWS::Logs::MetricFilter").values()
            for transformation in metric_filter["Properties"]["MetricTransformations"]
        }
        for where, metric in _metrics(stack):
            dimensions = {entry["Name"]: entry["Value"] for entry in metric.get("Dimensions", [])}
            match metric["Namespace"]:
                case "AWS/SQS":
                    known = metric["MetricName"] in _SQS_METRICS and set(dimensions) == {"QueueName"}
                    known = known and dimensions["QueueName"] in queues
                case "AWS/ECS":
                    known = metric["MetricName"] in _ECS_METRICS and set(dimensions) == {"ClusterName", "ServiceName"}
                    known = known and dimensions["ClusterName"] == "photos" and dimensions["ServiceName"] in services
                case "photos":
                    known = metric["MetricName"] in own and not dimensions
                case _:
                    known = False
            if not known:
                yield f"{where}: nobody publishes {metric}"


def _metrics(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every metric that a scaling policy, an alarm or the dashboard reads."""
    for name, queries in _queries(stack):
        yield from ((name, query["MetricStat"]["Metric"]) for query in queries if "MetricStat" in query)
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        if "MetricName" in alarm["Properties"]:
            yield name, alarm["Properties"]
    for name, dashboard in stack.resources("AWS::CloudWatch::Dashboard").items():
        for widget in json.loads(dashboard["Properties"]["DashboardBody"])["widgets"]:
            yield from ((name, metric) for metric in _drawn(widget["properties"]["metrics"]))


def _drawn(rows: list[list[Any]]) -> Iterator[dict[str, Any]]:
    """A widget's metrics, with its shorthand ("." and "..." repeat the row above) written out."""
    above: list[str] = []
    for row in rows:
        words = [word for word in row if isinstance(word, str)]
        if words[0] == "...":
            words = above[: len(above) - (len(words) - 1)] + words[1:]
        words = [above[place] if word == "." else word for place, word in enumerate(words)]
        above = words
        pairs = zip(words[2::2], words[3::2], strict=True)
        dimensions = [{"Name": name, "Value": value} for name, value in pairs]
        yield {"Namespace": words[0], "MetricName": words[1], "Dimensions": dimensions}


def _queries(stack: Stack) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every set of queries that an expression is computed from."""
    for name, policy in stack.resources("AWS::ApplicationAutoScaling::ScalingPolicy").items():
        tracking = policy["Properties"].get("TargetTrackingScalingPolicyConfiguration")
        if tracking is not None:
            yield name, tracking.get("CustomizedMetricSpecification", {}).get("Metrics", [])
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        if "Metrics" in alarm["Properties"]:
            yield name, alarm["Properties"]["Metrics"]


@rule
def expressions_can_be_computed(template: Template) -> Iterator[str]:
    for stack in variants(template):
        for name, policy in stack.resources("AWS::ApplicationAutoScaling::ScalingPolicy").items():
            tracking = policy["Properties"].get("TargetTrackingScalingPolicyConfiguration", {})
            specification = tracking.get("CustomizedMetricSpecification", {})
            if {"MetricName", "Namespace", "Statistic"} & set(specification):
                yield f"{name}: a metric of its own beside Metrics"
        for name, queries in _queries(stack):
            if [query.get("ReturnData", True) for query in queries].count(True) != 1:
                yield f"{name}: exactly one query must return data"
            measured = {query["Id"] for query in queries if "MetricStat" in query}
            expressions = [query["Expression"] for query in queries if "Expression" in query]
            try:
                used = set().union(*(names(expression) for expression in expressions))
                for expression in expressions:
                    evaluate(expression, {metric: [1.0] for metric in measured})
            except ExpressionError as exc:
                yield f"{name}: {exc}"
                continue
            if used != measured:
                yield f"{name}: measured but not used, or the reverse: {sorted(used ^ measured)}"


@rule
def workers_follow_the_backlog(template: Template) -> Iterator[str]:
    expression = _expression(template, "WorkerTracking")
    if expression is None:
        yield "the backlog per worker is not tracked"
        return
    # visible, in flight, running → tasks per worker
    cases = [
        (([300.0], [100.0], [4.0]), 100.0),  # what runs counts, else busy workers would be stopped
        (([0.0], [40.0], [4.0]), 10.0),
        (([300.0, 300.0], [None, None], [3.0, None]), 100.0),  # a late count of workers is not zero workers
        (([300.0], [0.0], [None]), None),  # no worker: for the wake alarm
    ]
    for (visible, inflight, running), wanted in cases:
        found = evaluate(expression, {"visible": visible, "inflight": inflight, "running": running})[-1]
        if found != wanted:
            yield f"{visible} waiting, {inflight} held, {running} workers: {found}, not {wanted}"
    if _of_query(template, "WorkerTracking", "running") != ("CPUUtilization", "SampleCount"):
        yield "how many workers run is the number of CPU samples"


@rule
def the_first_task_wakes_a_worker(template: Template) -> Iterator[str]:
    stack = Stack(template)
    alarm = stack.resources("AWS::CloudWatch::Alarm").get("WorkerWakeAlarm", {}).get("Properties")
    if alarm is None or alarm["AlarmActions"] != ["WorkerWake"]:
        yield "nothing starts the first worker"
        return
    expression = _expression(template, "WorkerWakeAlarm")
    # visible, in flight, received, empty receives → wake
    cases = [
        ((1.0, 0.0, 0.0, 0.0), True),
        ((1.0, None, None, None), True),
        ((5000.0, 0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 0.0, 0.0), False),
        ((1.0, 0.0, 0.0, 3.0), False),  # a worker is listening
        ((1.0, 2.0, 0.0, 0.0), False),  # a worker is busy
        ((1.0, 0.0, 1.0, 0.0), False),
    ]
    for (visible, inflight, taken, asked), wakes in cases:
        values = {"visible": [visible], "inflight": [inflight], "taken": [taken], "asked": [asked]}
        found = evaluate(expression, values)[-1] if expression else None
        if (found is not None and found >= alarm["Threshold"]) != wakes:
            yield f"{values}: {found}"
    if alarm["ComparisonOperator"] != "GreaterThanOrEqualToThreshold":
        yield "one message would not be enough"
    step = stack.properties("WorkerWake")["StepScalingPolicyConfiguration"]
    if step["AdjustmentType"] != "ChangeInCapacity" or any(s["ScalingAdjustment"] < 1 for s in step["StepAdjustments"]):
        yield "waking must only ever add workers"


@rule
def idle_mode_never_stops_a_busy_worker(template: Template) -> Iterator[str]:
    stack = Stack(template, {"ScaleIn": "idle", "MinWorkers": 2})
    tracking = stack.properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]
    if tracking["DisableScaleIn"] is not True:
        yield "idle: the target still stops workers"
    if Stack(template).properties("WorkerTracking")["TargetTrackingScalingPolicyConfiguration"]["DisableScaleIn"]:
        yield "target: nothing ever stops a worker"
    expression = _expression(template, "WorkerRestAlarm") or ""
    for visible, inflight, rests in ((0.0, 0.0, True), (0.0, None, True), (0.0, 1.0, False), (1.0, 0.0, False)):
        found = evaluate(expression, {"visible": [visible], "inflight": [inflight]})[-1]
        if (found == 0) != rests:
            yield f"idle: {visible} waiting, {inflight} held: {found}"
    for each in variants(template):
        if "WorkerRestAlarm" not in each.resources():
            yield "workers that have nothing to do wait for the target to notice"
    alarm = stack.resources()["WorkerRestAlarm"]["Properties"]
    if alarm["AlarmActions"] != ["WorkerRest"] or alarm["ComparisonOperator"] != "LessThanOrEqualToThreshold":
        yield "idle: the alarm does not stop workers"
    step = stack.properties("WorkerRest")["StepScalingPolicyConfiguration"]
    if step["AdjustmentType"] != "ExactCapacity" or step["StepAdjustments"][0]["ScalingAdjustment"] != 2:
        yield "idle: workers are not brought back to MinWorkers"


@rule
def busy_workers_are_protected(template: Template) -> Iterator[str]:
    stack = Stack(template)
    actions = {grant.action: grant.resources for grant in grants(stack, "WorkerRole")}
    resources = actions.get("ecs:UpdateTaskProtection")
    if resources != ("arn:aws:ecs:us-east-1:123456789012:task/photos/*",):
        yield f"a worker can't protect itself from scale-in: {resources}"
    if stack.properties("WorkerService").get("AvailabilityZoneRebalancing") != "DISABLED":
        yield "workers would be stopped to balance zones"


def _expression(template: Template, name: str) -> str | None:
    queries = dict(_queries(Stack(template, {"ScaleIn": "idle"}))).get(name, [])
    return next((query["Expression"] for query in queries if "Expression" in query), None)


def _of_query(template: Template, name: str, query_id: str) -> tuple[str, str] | None:
    for query in dict(_queries(Stack(template))).get(name, []):
        if query["Id"] == query_id:
            return query["MetricStat"]["Metric"]["MetricName"], query["MetricStat"]["Stat"]
    return None


# --- alarms and Flower


@rule
def alarms_say_what_to_do(template: Template) -> Iterator[str]:
    runbook = (FOLDER.parent / "docs" / "runbook.md").read_text(encoding="utf-8")
    entries = {_anchor(line) for line in runbook.splitlines() if line.startswith("## ")}
    stack = Stack(template)
    for name, alarm in stack.resources("AWS::CloudWatch::Alarm").items():
        text = alarm["Properties"].get("AlarmDescription", "")
        if alarm["Properties"]["AlarmActions"] != ["arn:aws:sns:us-east-1:123456789012:photos-alarms"]:
            if not text.startswith("Not a fault."):
                yield f"{name} tells nobody, and does not say that it is only for scaling"
            continue
        link = re.search(r"docs/runbook\.md#([a-z-]+)$", text)
        if "Do:" not in text or link is None:
            yield f"{name} does not say what to do"
        elif link[1] not in entries:
            yield f"{name}: docs/runbook.md has no entry {link[1]}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.removeprefix("## ").lower()).strip().replace(" ", "-")


@rule
def what_matters_has_an_alarm(template: Template) -> Iterator[str]:
    stack = Stack(template)
    watched = {
        (
            alarm["Properties"].get("MetricName"),
            *(entry["Value"] for entry in alarm["Properties"].get("Dimensions", [])),
        )
        for alarm in stack.resources("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:photos-alarms"]
    }
    wanted = {
        ("ApproximateNumberOfMessagesVisible", "photos-events-dlq"): "dead events",
        ("ApproximateNumberOfMessagesVisible", "photos-tasks-dlq"): "dead tasks",
        ("ApproximateAgeOfOldestMessage", "photos-events"): "events that wait",
        ("CPUUtilization", "photos", "worker"): "workers at the maximum",
        ("CPUUtilization", "photos", "bridge"): "no bridge",
        ("FailureRecords",): "failures",
    }
    for metric, what in wanted.items():
        if metric not in watched:
            yield f"nothing tells of {what}"
    bridge = stack.properties("BridgeAlarm")
    if bridge["TreatMissingData"] != "breaching" or bridge["ComparisonOperator"] != "LessThanThreshold":
        yield "a bridge that does not run sends no metric: missing data must count"


@rule
def flower_is_not_public(template: Template) -> Iterator[str]:
    plain, balanced = Stack(template), variants(template)[3]
    for stack in (plain, balanced):
        for name, group in stack.resources("AWS::EC2::SecurityGroup").items():
            for entry in group["Properties"].get("SecurityGroupIngress", []):
                if entry.get("SourceSecurityGroupId") != "sg-1":
                    yield f"{name} lets {entry} in"
        (container,) = stack.properties("FlowerTask")["ContainerDefinitions"]
        secrets = {secret["Name"]: secret["ValueFrom"] for secret in container.get("Secrets", [])}
        if secrets != {"FLOWER_BASIC_AUTH": "FlowerSecret"}:
            yield "Flower has no password"
    groups = [
        stack.properties("FlowerService")["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"]
        for stack in (plain, balanced)
    ]
    if groups != [["SecurityGroup"], ["FlowerSecurityGroup"]]:
        yield f"Flower is reached through {groups}"
    if "FlowerPortForward" not in template["Outputs"]:
        yield "nobody is told how to reach Flower"
    if "FlowerBehindItsBalancer" not in template.get("Rules", {}):
        yield "half a load balancer is not refused"
