"""What a person must and may give."""

from __future__ import annotations

from collections.abc import Iterator

from tests.stack.rules.base import Template, rule
from tests.stack.template import FOLDER

#: A template up to this many bytes needs no bucket to be uploaded to.
MAX_TEMPLATE_BYTES = 51_200


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
