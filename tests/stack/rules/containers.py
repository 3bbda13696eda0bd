"""What runs, how it is locked down, and how it stops."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.core.settings import Settings
from tests.stack.rules.base import Template, rule, variants
from tests.stack.template import Stack

#: The longest that Fargate waits between SIGTERM and SIGKILL.
MAX_STOP_TIMEOUT_S = 120
HEALTH_CHECK = "pipeline/sqs/health_check.py"
#: Seconds, and a count. Source: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
HEALTH_CHECK_BOUNDS = {"Interval": (5, 300), "Timeout": (2, 60), "Retries": (1, 10), "StartPeriod": (0, 300)}
#: Settings that the template sets from one of its parameters; their defaults must agree.
PARAMETER_OF_SETTING = {
    "KEY_PREFIX": "KeyPrefix",
    "ROUTES": "Routes",
    "RESIZE_BOX": "ResizeBox",
    "THUMB_BOX": "ThumbBox",
    "RENDITIONS": "Renditions",
    "SOFT_TIME_LIMIT_S": "SoftTimeLimit",
    "HARD_TIME_LIMIT_S": "HardTimeLimit",
    "METRICS_NAMESPACE": "MetricsNamespace",
}
#: Variables that are not settings of ours: whose they are.
FOREIGN_VARIABLES = {
    "AWS_DEFAULT_REGION": "boto3",
    "FLOWER_BASIC_AUTH": "Flower",
    "PIPELINE_SETTINGS": "many settings in one",
}


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
        "WorkerTask": ["python", "-m", "pipeline.worker"],
        "FlowerTask": ["celery", "-A", "pipeline", "flower"],
    }
    for name, command in wanted.items():
        (container,) = stack.properties(name)["ContainerDefinitions"]
        if container["Command"][: len(command)] != command:
            yield f"{name} runs {container['Command']}"


@rule
def health_checks_are_cheap_and_patient(template: Template) -> Iterator[str]:
    """A busy container is slow to answer, and whoever is killed for that loses what it works on.

    A quarter of a vCPU that eight processes share gives a check a few hundredths of one: 0.27 s of CPU took 8 to 15 s.
    """
    stack = Stack(template)
    for name in stack.resources("AWS::ECS::TaskDefinition"):
        (container,) = stack.properties(name)["ContainerDefinitions"]
        role = name.removesuffix("Task").lower()
        check = container["HealthCheck"]
        if check["Command"] != ["CMD", "python", "-SI", f"/srv/{HEALTH_CHECK}", role]:
            yield f"{name} is checked by {check['Command']}"
        for field, (low, high) in HEALTH_CHECK_BOUNDS.items():
            if not low <= check.get(field, 0) <= high:
                yield f"{name}: {field} {check.get(field)}; ECS takes {low} to {high}"
        if check["Retries"] < 3 or check["Timeout"] < 15:
            yield f"{name} is given up after {check['Retries']} checks of {check['Timeout']} s"
        if Settings.from_env({}).health_stale_s + check["Interval"] * (check["Retries"] + 1) > 180:
            yield f"{name}: one that hangs is found after more than three minutes"


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
    budget_s = Settings.from_env({}).shutdown_timeout_s
    if not 0 < stop_s - budget_s <= 30:
        yield f"a worker takes {budget_s} s to finish and is killed after {stop_s} s"


@rule
def messages_stay_hidden_while_they_are_worked_on(template: Template) -> Iterator[str]:
    stack = Stack(template)
    settings = Settings.from_env({})
    if stack.properties("TasksQueue")["VisibilityTimeout"] != settings.message_visibility_timeout_s:
        yield f"tasks: the queue's visibility is not the workers' own, {settings.message_visibility_timeout_s} s"
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
def every_setting_can_be_given(template: Template) -> Iterator[str]:
    """By a parameter of its own, or in the list; and the list's pattern lets each be written."""
    stack = Stack(template, {"Settings": "QUALITY=80;DELETE_RENDITIONS=false"})
    for name, task in stack.resources("AWS::ECS::TaskDefinition").items():
        (container,) = task["Properties"]["ContainerDefinitions"]
        variables = {entry["Name"]: str(entry["Value"]) for entry in container["Environment"]}
        settings = Settings.from_env(
            {k: v for k, v in variables.items() if k.lower() in Settings.model_fields or k == "PIPELINE_SETTINGS"}
        )
        if (settings.quality, settings.delete_renditions) != (80, False):
            yield f"{name} does not get the list"
    pattern = template["Parameters"]["Settings"]["AllowedPattern"]
    for text in ("", "MAX_PIXELS=1", " A=1; B=x, y ;\n", "KEY_PREFIX=a=b"):
        if not re.fullmatch(pattern, text):
            yield f"Settings can't be {text!r}"
    for text in ("MAX_PIXELS", "A=1;b", "max_pixels=1"):
        if re.fullmatch(pattern, text):
            yield f"Settings may be {text!r}"


@rule
def limits_are_the_settings_limits(template: Template) -> Iterator[str]:
    for variable, parameter in PARAMETER_OF_SETTING.items():
        limits = {type(item).__name__: item for item in Settings.model_fields[variable.lower()].metadata}
        declared = template["Parameters"][parameter]
        for kind, bound in (("Ge", "MinValue"), ("Le", "MaxValue")):
            if kind in limits and getattr(limits[kind], kind.lower()) != declared.get(bound):
                yield f"{parameter}: {bound} is not that of the setting {variable}"
