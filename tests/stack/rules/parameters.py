"""What a person must and may give."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.deploy.compact import MAX_BYTES, compacted
from tests.stack.rules.base import Template, rule
from tests.stack.template import FOLDER, Stack, load


@rule
def fits_without_a_bucket(_: Template) -> Iterator[str]:
    for path in FOLDER.glob("*.yaml"):
        size = len(compacted(path.read_text(encoding="utf-8")).encode())
        if size > MAX_BYTES:
            yield f"{path.name} has {size} bytes without its comments; {MAX_BYTES} can be sent in a request"


@rule
def only_image_and_network_must_be_given(template: Template) -> Iterator[str]:
    needed = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
    if needed != {"Image", "VpcId", "SubnetIds", "Pipeline"}:  # the last is the name of the alarms' stack's own
        yield f"parameters without a default: {sorted(needed)}"


def _only_of(alarms: Template) -> set[str]:
    return set(alarms["Parameters"]) - set(load()["Parameters"])


@rule
def parameters_are_grouped_and_described(template: Template) -> Iterator[str]:
    alarms = load("alarms.yaml")
    for name, each in (("batch.yaml", template), ("alarms.yaml", alarms)):
        groups = each["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        grouped = [parameter for group in groups for parameter in group["Parameters"]]
        # Of the two templates as one, those of the alarms alone are in their own groups.
        declared = set(alarms["Parameters"]) if each is alarms else set(template["Parameters"]) - _only_of(alarms)
        if len(grouped) != len(set(grouped)) or set(grouped) != declared:
            yield f"{name}: not in exactly one group: {set(grouped) ^ declared}"
    for name, parameter in template["Parameters"].items():
        if len(parameter.get("Description", "")) < 10:
            yield f"{name} has no description"


#: The console's host in each partition. Sources: https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-console.html
#: and https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
}


@rule
def dashboard_is_where_the_console_is(template: Template) -> Iterator[str]:
    for partition, host in CONSOLES.items():
        stack = Stack(template, pseudo={"AWS::Partition": partition})
        url = stack.resolve(template["Outputs"]["DashboardUrl"]["Value"])
        if url != f"https://{host}/cloudwatch/home?region=us-east-1#dashboards:name=photos":
            yield f"{partition}: {url}"
