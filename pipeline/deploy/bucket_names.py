"""Bucket names as literals: CloudFormation takes over kept buckets by static names only.

Source: CloudFormation User Guide, "Import AWS resources into a CloudFormation stack automatically"
(ImportExistingResources matches resources by names that are written in the template, not by functions).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

#: How the templates name a bucket: by a parameter, or else after the stack.
_YAML = re.compile(r'BucketName: !If \[\w+, !Ref (\w+), !Sub "([^"]*)"\]')
_JSON = re.compile(
    r'"BucketName":\s*\{\s*"Fn::If":\s*\[\s*"\w+",\s*\{\s*"Ref":\s*"(\w+)"\s*\},'
    r'\s*\{\s*"Fn::Sub":\s*"([^"]*)"\s*\}\s*\]\s*\}'
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template with literal bucket names. ``buckets``: these names, each by the parameter that may set it."""

    text: str
    buckets: Mapping[str, str]


def rendered(template: str, values: Mapping[str, str], *, stack: str, account: str, region: str) -> Rendered:
    """A template, YAML or JSON, with each bucket's name as a literal. ``values``: the template's parameters."""
    pseudo = {"AWS::StackName": stack, "AWS::AccountId": account, "AWS::Region": region}
    buckets: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        parameter, text = match[1], match[2]
        made = re.sub(r"\$\{([\w:]+)\}", lambda found: pseudo[found[1]], text)
        buckets[parameter] = values.get(parameter) or made  # in the templates, an empty name means none
        return json.dumps(buckets[parameter])

    text = _YAML.sub(lambda match: f"BucketName: {name(match)}", template)
    text = _JSON.sub(lambda match: f'"BucketName": {name(match)}', text)
    return Rendered(text, buckets)
