"""Reads a CloudFormation template and resolves its functions to the values that a stack would have."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.deploy.buckets import STACK_TAG

FOLDER = Path(__file__).parents[2] / "cloudformation"

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "us-east-1",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "photos",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/photos/1",
}
NO_VALUE = object()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times as fast where it is
    """YAML with CloudFormation's short tags: ``!Ref x`` becomes ``{"Ref": "x"}``."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def load(name: str = "batch.yaml") -> dict[str, Any]:
    """The template as it is written, with its functions as ``{"Fn::…": …}``."""
    return deepcopy(_loaded(name))


@cache
def _loaded(name: str) -> dict[str, Any]:
    return parse((FOLDER / name).read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    return template


def whole() -> dict[str, Any]:
    """The pipeline and its alarms as if they were one template, so that rules see both."""
    merged, alarms = load(), load("alarms.yaml")
    for section in ("Parameters", "Conditions", "Resources", "Outputs"):
        merged[section] = alarms[section] | merged[section]
    return merged


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Logical id → resource, for one resource type."""
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


#: The part of the template that an emulator can make: what messages and objects go through, and the roles.
EMULATED = (
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::SNS::Topic",
    "AWS::IAM::Role",
    "AWS::SecretsManager::Secret",  # which a role names
    "AWS::Logs::LogGroup",
    "AWS::ECS::Cluster",
)


def emulated(template: Mapping[str, Any], *more: str) -> str:
    """The emulated part of a template, as JSON; buckets are kept by the one policy for it that emulators know.

    ``more``: types of resources besides. An update by the emulator makes what a condition excludes, so rules are not
    among those that are always there.
    """
    resources = {}
    for kind in (*EMULATED, *more):
        for name, resource in of_type(template, kind).items():
            kept = {key: value for key, value in resource.items() if key != "DependsOn"}
            if "DeletionPolicy" in kept:
                kept["DeletionPolicy"] = "Retain"
            if kind == "AWS::S3::Bucket":  # CloudFormation puts the stack's tags on it
                tag = {"Key": STACK_TAG, "Value": {"Ref": "AWS::StackName"}}
                kept["Properties"] = {**kept["Properties"], "Tags": [tag]}
            resources[name] = kept
    named = {"UploadTo", "RenditionsIn", "InputBucketName", "OutputBucketName", "QueuePrefix"}
    outputs = {name: output for name, output in template["Outputs"].items() if name in named}
    parts = {key: template[key] for key in ("AWSTemplateFormatVersion", "Parameters", "Conditions")}
    return json.dumps({**parts, "Resources": resources, "Outputs": outputs})


@dataclass
class Stack:
    """A template with values for its parameters: what a deployment of it would consist of."""

    template: Mapping[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    pseudo: Mapping[str, str] = field(default_factory=dict)  # others than ``PSEUDO``: another region or partition

    def __post_init__(self) -> None:
        self.pseudo = PSEUDO | dict(self.pseudo)
        needed = {"Image": "registry/image:1", "VpcId": "vpc-1", "SubnetIds": ["subnet-1", "subnet-2"]}
        given = needed | {"Pipeline": self.pseudo["AWS::StackName"]} | self.parameters
        declared = self.template.get("Parameters", {})
        values = {name: parameter.get("Default") for name, parameter in declared.items()}
        values |= {name: value for name, value in given.items() if name in declared}
        for name, value in values.items():
            if declared[name]["Type"] == "CommaDelimitedList" and isinstance(value, str):
                values[name] = value.split(",")  # an empty one is one empty word
        self.parameters = values

    def condition(self, name: str) -> bool:
        return bool(self.resolve(self.template["Conditions"][name]))

    def resources(self, kind: str | None = None) -> dict[str, dict[str, Any]]:
        """The resources that exist under the conditions, with their properties resolved."""
        found = {}
        for name, resource in self.template["Resources"].items():
            exists = "Condition" not in resource or self.condition(resource["Condition"])
            if exists and kind in (None, resource["Type"]):
                found[name] = self.resolve({key: item for key, item in resource.items() if key != "Condition"})
        return found

    def properties(self, name: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.resolve(self.template["Resources"][name]["Properties"])
        return properties

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            function = self._functions().get(name)
            if function is not None:
                return function(argument)
        pairs = ((name, self.resolve(item)) for name, item in value.items())
        return {name: item for name, item in pairs if item is not NO_VALUE}

    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda argument: self._attribute(*argument),
            "Fn::Sub": self._sub,
            "Fn::If": lambda argument: self.resolve(argument[1 if self.condition(argument[0]) else 2]),
            "Fn::Equals": lambda argument: str(self.resolve(argument[0])) == str(self.resolve(argument[1])),
            "Fn::Not": lambda argument: not self.resolve(argument[0]),
            "Fn::And": lambda argument: all(map(self.resolve, argument)),
            "Fn::Or": lambda argument: any(map(self.resolve, argument)),
            "Condition": lambda argument: self.condition(argument) if isinstance(argument, str) else None,
            "Fn::Select": lambda argument: self.resolve(argument[1])[int(argument[0])],
            "Fn::Split": lambda argument: self.resolve(argument[1]).split(argument[0]),
            "Fn::Join": lambda argument: argument[0].join(self.resolve(argument[1])),
            "Fn::GetAZs": lambda _: [f"{self.pseudo['AWS::Region']}{zone}" for zone in "abc"],
            "Fn::Base64": lambda argument: base64.b64encode(self.resolve(argument).encode()).decode(),
        }

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            return self.parameters[name]
        return self._of_resource(name, None)

    def _attribute(self, name: str, attribute: str) -> str:
        return self._of_resource(name, attribute)

    def _sub(self, argument: str | list[Any]) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return str(self.resolve(own[name]))
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", value, text)

    def _of_resource(self, name: str, attribute: str | None) -> str:  # noqa: PLR0911 - one case, one result
        """What ``Ref`` or ``GetAtt`` gives for a resource; raises ``KeyError`` for one that doesn't exist."""
        kind = self.template["Resources"][name]["Type"]
        properties = self.template["Resources"][name].get("Properties", {})
        partition, region, account = (self.pseudo[f"AWS::{part}"] for part in ("Partition", "Region", "AccountId"))

        def named(key: str) -> str:
            return str(self.resolve(properties[key]))

        match kind, attribute:
            case "AWS::SQS::Queue", None:
                return f"https://sqs.{region}.amazonaws.com/{account}/{named('QueueName')}"
            case "AWS::SQS::Queue", "QueueName":
                return named("QueueName")
            case "AWS::SQS::Queue", "Arn":
                return f"arn:{partition}:sqs:{region}:{account}:{named('QueueName')}"
            case "AWS::SNS::Topic", None | "TopicArn":
                return f"arn:{partition}:sns:{region}:{account}:{named('TopicName')}"
            case "AWS::S3::Bucket", None:
                return named("BucketName")
            case "AWS::S3::Bucket", "Arn":
                return f"arn:{partition}:s3:::{named('BucketName')}"
            case "AWS::ECS::Cluster", None:
                return named("ClusterName")
            case "AWS::ECS::Service", "Name":
                return named("ServiceName")
            case "AWS::Logs::LogGroup", None:
                return named("LogGroupName")
            case "AWS::Logs::LogGroup", "Arn":
                return f"arn:{partition}:logs:{region}:{account}:log-group:{named('LogGroupName')}:*"
            case _:
                return f"{name}.{attribute}" if attribute else name
