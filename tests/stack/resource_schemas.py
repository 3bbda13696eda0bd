"""What CloudFormation calls for resources of a type: AWS's own resource schemas, as cfn-lint carries them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_SCHEMAS = "data/schemas/resources"
_HANDLERS = ("create", "read", "update", "delete")

#: Writes of what no template here has. All reads are needed: CloudFormation reads the whole of a resource.
_NOT_USED = re.compile(
    "Replicat|Website|Metadata|Accelerate|Analytics|IntelligentTiering|Inventory|MetricsConfig|ObjectLock|Abac|Logging|Acl"
    "|GroupPolicy|UserPolicy|AccountSetting|Scheduled|BearerToken|DataProtection|IndexPolicy|LogDelivery|ResourcePolicy"
    "|RegionsFrom|DeletionProtection|KmsKey|REST|AttachRole|DetachRole|DeleteObject"
)
_READS = ("Get", "List", "Describe")
#: Of services that ours could lead to, and don't.
_OTHERS = {"lambda", "s3tables", "firehose", "kms"}
#: Named in the schemas, and not by IAM, which has one action for putting and deleting these.
_NO_ACTIONS = {"s3:DeleteBucketCors", "s3:DeleteBucketEncryption", "s3:DeleteBucketLifecycle"}
#: Reads of what no template here has.
_NOT_READ = {"iam:GetGroupPolicy", "iam:GetUserPolicy"}


@cache
def _permissions() -> dict[str, frozenset[str]]:
    """By resource type."""
    found = {}
    spec = find_spec("cfnlint")  # found, and not imported: that takes a second
    assert spec is not None
    assert spec.origin is not None
    for path in Path(spec.origin).parent.joinpath(_SCHEMAS).glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        handlers = schema.get("handlers", {})
        actions = {action for name in _HANDLERS for action in handlers.get(name, {}).get("permissions", [])}
        found[schema["typeName"]] = frozenset(actions)
    return found


def needed(kinds: Iterable[str]) -> set[str]:
    """The actions for resources of these types, but for what the templates do not use of them."""
    found = {action for kind in kinds for action in _permissions()[kind]}
    return {action for action in found - _NO_ACTIONS - _NOT_READ if _is_used(action)}


def _is_used(action: str) -> bool:
    service, name = action.split(":", 1)
    return service not in _OTHERS and (name.startswith(_READS) or _NOT_USED.search(name) is None)
