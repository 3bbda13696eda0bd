"""An account of AWS that a deployment is tried on: buckets with their owners, stacks that make, keep and import them.

As much as `deploy` and `teardown` ask; every answer is checked by the service's own model (``tests.support.answers``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from tests.stack.template import Stack, parse
from tests.support.answers import Answers, Refused

_parse = cache(parse)
ACCOUNT, REGION = "123456789012", "eu-west-1"
#: Of the stack that CloudFormation puts on what it makes.
_TAG = "aws:cloudformation:stack-name"
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Bucket:
    owner: str = ACCOUNT
    region: str = REGION
    tags: dict[str, str] = field(default_factory=dict)
    notifications: dict[str, Any] = field(default_factory=dict)
    key: str | None = None  # of KMS
    objects: list[str] = field(default_factory=list)
    is_open: bool = False  # its policy lets others look


@dataclass
class StackModel:
    id: str
    name: str
    template: Stack
    parameters: dict[str, str]
    tags: list[dict[str, str]]
    status: str
    resources: dict[str, tuple[str, str]] = field(default_factory=dict)  # type and name in AWS, by logical id
    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, status: str, name: str = "", kind: str = "AWS::CloudFormation::Stack", reason: str = "") -> None:
        found = {
            "StackId": self.id,
            "EventId": str(len(self.events)),
            "StackName": self.name,
            "Timestamp": _TIME,
            "PhysicalResourceId": name or self.id,
            "LogicalResourceId": name or self.name,
            "ResourceType": kind,
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }
        self.events.insert(0, found)
        if not name:
            self.status = status


class Account:
    """``failures``: of the changes that are carried out, in turn, why the input bucket fails; "" where it does not."""

    def __init__(self, aws: Answers) -> None:
        self.aws = aws
        self.buckets: dict[str, Bucket] = {}
        self.stacks: dict[str, StackModel] = {}  # by id
        self.failures: list[str] = []
        self.busy = 0  # so many of the next requests to CloudFormation are throttled
        self._sets: dict[str, dict[str, Any]] = {}
        aws.on("sts.GetCallerIdentity", {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"})
        for name in (
            "GetTemplateSummary",
            "CreateChangeSet",
            "DescribeChangeSet",
            "DeleteChangeSet",
            "ExecuteChangeSet",
            "DescribeStacks",
            "DescribeStackEvents",
            "ListStackResources",
            "DeleteStack",
        ):
            aws.on(f"cloudformation.{name}", self._cloudformation(name))
        aws.on("s3.HeadBucket", self._head)
        aws.on("s3.GetBucketTagging", self._tagging)
        aws.on("s3.GetBucketEncryption", self._encryption)
        aws.on("s3.GetBucketNotificationConfiguration", lambda asked: dict(self._own(asked).notifications))
        aws.on("s3.PutBucketNotificationConfiguration", self._notify)
        role = {"Path": "/", "RoleName": "x", "RoleId": "A" * 16, "Arn": "arn:aws:iam::1:role/xx", "CreateDate": 0}
        aws.on("iam.GetRole", {"Role": role})
        aws.on("ecs.ListTasks", {"taskArns": []})
        aws.on("ecs.DescribeServices", lambda asked: {"services": [self.service(n) for n in asked["services"]]})
        aws.on("events.ListRules", {"Rules": []})
        aws.on("sqs.GetQueueUrl", Refused("QueueDoesNotExist"))
        aws.on("sqs.ListQueues", {"QueueUrls": []})
        aws.on("s3.ListObjectVersions", self._versions)
        aws.on("s3.DeleteObjects", self._delete_objects)
        aws.on("s3.DeleteBucket", self._delete_bucket)

    # S3

    def _seen(self, asked: Mapping[str, Any]) -> Bucket:
        found = self.buckets.get(asked["Bucket"])
        if found is None:
            raise Refused("404", 404)
        if asked.get("ExpectedBucketOwner", found.owner) != found.owner or (
            found.owner != ACCOUNT and not found.is_open
        ):
            raise Refused("403", 403)
        return found

    def _own(self, asked: Mapping[str, Any]) -> Bucket:
        found = self._seen(asked)
        if found.owner != ACCOUNT:
            raise Refused("AccessDenied", 403)
        return found

    def _head(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"BucketRegion": self._seen(asked).region}

    def _tagging(self, asked: dict[str, Any]) -> dict[str, Any]:
        tags = self._own(asked).tags
        if not tags:
            raise Refused("NoSuchTagSet", 404)
        return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _encryption(self, asked: dict[str, Any]) -> dict[str, Any]:
        key = self._own(asked).key
        default = {"SSEAlgorithm": "AES256"} if key is None else {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        return {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}}

    def _notify(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["SkipDestinationValidation"] is True
        self._own(asked).notifications = asked["NotificationConfiguration"]
        return {}

    def _versions(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Versions": [{"Key": key, "VersionId": "1"} for key in self._own(asked).objects]}

    def _delete_objects(self, asked: dict[str, Any]) -> dict[str, Any]:
        for entry in asked["Delete"]["Objects"]:
            self._own(asked).objects.remove(entry["Key"])
        return {}

    def _delete_bucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert not self._own(asked).objects
        del self.buckets[asked["Bucket"]]
        return {}

    # CloudFormation

    def _cloudformation(self, name: str) -> Any:
        def answer(asked: dict[str, Any]) -> Any:
            if self.busy:
                self.busy -= 1
                raise Refused("Throttling", 400, "Rate exceeded")
            return getattr(self, f"_{name}")(asked)

        return answer

    def _GetTemplateSummary(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        declared = _parse(asked["TemplateBody"])["Parameters"]
        return {
            "Parameters": [
                {"ParameterKey": name} | ({"DefaultValue": str(each["Default"])} if "Default" in each else {})
                for name, each in declared.items()
            ]
        }

    def named(self, name: str) -> StackModel | None:
        """A stack by name or id; deleted ones by their id alone."""
        found = [each for each in self.stacks.values() if each.name == name and each.status != "DELETE_COMPLETE"]
        return self.stacks.get(name) or (found[0] if found else None)

    def _stack(self, asked: Mapping[str, Any]) -> StackModel:
        found = self.named(asked["StackName"])
        if found is None:
            raise Refused("ValidationError", 400, f"Stack with id {asked['StackName']} does not exist")
        return found

    def _CreateChangeSet(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        stack = self.named(asked["StackName"])
        if asked["ChangeSetType"] == "UPDATE":
            assert stack is not None
            if stack.status.endswith("_IN_PROGRESS"):
                raise Refused(
                    "ValidationError", 400, f"Stack:{stack.id} is in {stack.status} state and can not be updated."
                )
        values = {each["ParameterKey"]: each["ParameterValue"] for each in asked["Parameters"]}
        pseudo = {"AWS::StackName": asked["StackName"], "AWS::Region": REGION, "AWS::AccountId": ACCOUNT}
        template = Stack(_parse(asked["TemplateBody"]), dict(values), pseudo)
        if stack is None:
            number = len(self.stacks) + 1
            stack_id = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{asked['StackName']}/{number}"
            stack = StackModel(stack_id, asked["StackName"], template, {}, [], "REVIEW_IN_PROGRESS")
            self.stacks[stack_id] = stack
        changes = []
        made = template.resources()
        for name, resource in made.items():
            physical = self._name(template, name)
            if name in stack.resources:
                continue
            change = {"LogicalResourceId": name, "ResourceType": resource["Type"], "Action": "Add"}
            written = template.template["Resources"][name].get("Properties", {}).get("BucketName")
            if physical in self.buckets and asked["ImportExistingResources"] and isinstance(written, str):
                assert resource["DeletionPolicy"] == "Retain"  # a rollback would delete what it has just "created"
                change |= {"Action": "Import", "PhysicalResourceId": physical}
            changes.append({"Type": "Resource", "ResourceChange": change})
        for name, (kind, physical) in stack.resources.items():
            if name not in made:
                change = {
                    "LogicalResourceId": name,
                    "ResourceType": kind,
                    "Action": "Remove",
                    "PhysicalResourceId": physical,
                }
                changes.append({"Type": "Resource", "ResourceChange": change})
        change_set = f"{stack.id}/{asked['ChangeSetName']}/{len(self._sets)}"
        nothing = not changes and values == stack.parameters
        self._sets[change_set] = {"stack": stack, "template": template, "values": values, "changes": changes}
        self._sets[change_set] |= {"tags": asked["Tags"], "nothing": nothing}
        return {"Id": change_set, "StackId": stack.id}

    def _name(self, template: Stack, name: str) -> str:
        properties = template.template["Resources"][name].get("Properties", {})
        return str(template.resolve(properties["BucketName"])) if "BucketName" in properties else name

    def _DescribeChangeSet(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._sets[asked["ChangeSetName"]]
        if found["nothing"]:
            return {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}
        return {"Status": "CREATE_COMPLETE", "Changes": found["changes"]}

    def _DeleteChangeSet(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        del self._sets[asked["ChangeSetName"]]
        return {}

    def _ExecuteChangeSet(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._sets[asked["ChangeSetName"]]
        stack: StackModel = found["stack"]
        new = stack.status == "REVIEW_IN_PROGRESS"
        kind = "CREATE" if new else "UPDATE"
        stack.event(f"{kind}_IN_PROGRESS")
        reason = self.failures.pop(0) if self.failures else ""
        if reason:
            stack.event("CREATE_FAILED", "InputBucket", "AWS::S3::Bucket", reason)
            stack.event("ROLLBACK_COMPLETE" if new else "UPDATE_ROLLBACK_COMPLETE")
            return {}
        stack.template, stack.parameters, stack.tags = found["template"], found["values"], found["tags"]
        for entry in found["changes"]:
            change = entry["ResourceChange"]
            name, physical = change["LogicalResourceId"], self._name(stack.template, change["LogicalResourceId"])
            if change["Action"] == "Remove":
                stack.resources.pop(name)
                continue
            if change["ResourceType"] == "AWS::S3::Bucket" and change["Action"] == "Add":
                assert physical not in self.buckets, f"{physical} exists already: CloudFormation would fail"
                tags = {each["Key"]: each["Value"] for each in found["tags"]}
                self.buckets[physical] = Bucket(tags=tags | {_TAG: stack.name})
            stack.resources[name] = (change["ResourceType"], physical)
        stack.event(f"{kind}_COMPLETE")
        return {}

    def _DescribeStacks(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._stack(asked)
        outputs = found.template.template.get("Outputs", {}) if found.resources else {}
        shown = [
            {"OutputKey": name, "OutputValue": str(found.template.resolve(output["Value"]))}
            for name, output in outputs.items()
            if "Condition" not in output or found.template.condition(output["Condition"])
        ]
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in found.parameters.items()]
        about = {"StackName": found.name, "StackId": found.id, "StackStatus": found.status, "CreationTime": _TIME}
        return {"Stacks": [{**about, "Parameters": parameters, "Outputs": shown, "Tags": found.tags}]}

    def _DescribeStackEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"StackEvents": self._stack(asked).events}

    def _ListStackResources(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {
            "StackResourceSummaries": [
                {
                    "LogicalResourceId": name,
                    "PhysicalResourceId": physical,
                    "ResourceType": kind,
                    "LastUpdatedTimestamp": _TIME,
                    "ResourceStatus": "CREATE_COMPLETE",
                }
                for name, (kind, physical) in self._stack(asked).resources.items()
            ]
        }

    def _DeleteStack(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self.named(asked["StackName"])
        if found is not None and found.status != "DELETE_COMPLETE":
            found.event("DELETE_IN_PROGRESS")
            found.resources.clear()  # buckets are kept by their policy
            found.event("DELETE_COMPLETE")
        return {}

    # ECS

    def service(self, name: str) -> dict[str, Any]:
        return {
            "serviceName": name,
            "taskDefinition": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/photos-{name}:1",
            "desiredCount": 1,
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        }
