"""Buckets of another account: what their owner has to allow is printed, and nothing of them is changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.deploy.account import Account as Here
from pipeline.deploy.foreign import Policies
from tests.stack.iam import Call, Grant
from tests.support.aws_model import ACCOUNT, REGION, Account, Bucket
from tests.unit.test_deploy_life import account, run, tear_down, template  # noqa: F401 - fixtures

THEIRS = "210987654321"
HERE = Here(id=ACCOUNT, region=REGION, arn=f"arn:aws:iam::{ACCOUNT}:user/me")
VALUES = {"OutputPrefix": "previews/", "OwnFolder": "own/", "RolePath": "/teams/"}
ROLES = [f"arn:aws:iam::{ACCOUNT}:role/teams/photos-*Role-*"]


def allows(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    return any(
        Grant("", each, tuple(statement["Resource"])).allows(Call(action, resource))
        for statement in statements
        for each in statement["Action"]
    )


def test_the_policy_of_an_input_bucket_lets_it_be_read_and_no_more() -> None:
    wanted = Policies("theirs", "photos", HERE, VALUES, is_input=True)
    statements = wanted.of_bucket()
    assert allows(statements, "s3:GetObject", "arn:aws:s3:::theirs/a/b.jpg")
    assert allows(statements, "s3:ListBucket", "arn:aws:s3:::theirs")
    assert not allows(statements, "s3:PutObject", "arn:aws:s3:::theirs/a")
    assert not allows(statements, "s3:DeleteObject", "arn:aws:s3:::theirs/a")
    assert statements[0]["Condition"] == {"ArnLike": {"aws:PrincipalArn": ROLES}}
    assert [each["Action"] for each in wanted.of_key()] == [["kms:Decrypt"]]


def test_that_of_an_output_bucket_names_the_folders_below_the_prefix() -> None:
    wanted = Policies("site", "photos", HERE, VALUES, is_input=False)
    statements = wanted.of_bucket()
    for folder in ("resized", "thumbs", "failed", "own"):
        for verb in ("Get", "Put", "Delete"):
            assert allows(statements, f"s3:{verb}Object", f"arn:aws:s3:::site/previews/{folder}/a")
    assert not allows(statements, "s3:PutObject", "arn:aws:s3:::site/resized/a")
    medium = "s3:PutObject", "arn:aws:s3:::site/previews/medium/a"
    more = Policies("site", "photos", HERE, VALUES | {"Renditions": "thumbs=9x9,medium=99x99"}, is_input=False)
    assert (allows(statements, *medium), allows(more.of_bucket(), *medium)) == (False, True)
    assert not allows(statements, "s3:PutObject", "arn:aws:s3:::site/previews/index.html")
    (key,) = wanted.of_key()
    assert key["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert key["Condition"] == {"ArnLike": {"aws:PrincipalArn": ROLES}}  # not everybody in this account


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_all_arns_are_of_the_partition(partition: str) -> None:
    here = Here(id=ACCOUNT, region=REGION, arn=f"arn:{partition}:iam::{ACCOUNT}:user/me")
    for is_input in (True, False):
        text = Policies("theirs", "photos", here, {}, is_input=is_input).text()
        assert set(re.findall(r"arn:(aws[a-z-]*):", text)) == {partition}


def test_what_is_printed_is_json_as_it_is_to_be_pasted() -> None:
    text = Policies("theirs", "photos", HERE, VALUES, is_input=True).text()
    found = [json.loads(each) for each in re.findall(r"^[\[{].*?^[\]}]", text, re.MULTILINE | re.DOTALL)]
    assert len(found) == 3  # the bucket's and the key's policy, and the rule's pattern
    assert found[2]["detail"] == {"bucket": {"name": ["theirs"]}}
    assert f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default" in text


def test_a_stranger_s_bucket_is_refused_and_the_way_for_a_known_one_shown(account: Account, template: Path) -> None:  # noqa: F811
    account.buckets["theirs"] = Bucket(owner=THEIRS)
    text = run(template, buckets=("theirs",))
    assert "bucket theirs is not this account's" in text
    assert "-p BucketAccounts=…" in text
    assert account.stacks == {}


def test_one_that_may_not_be_looked_at_yet_waits_for_its_owner(account: Account, template: Path) -> None:  # noqa: F811
    account.buckets["site"] = Bucket(owner=THEIRS)
    text = run(template, ExistingOutputBucket="site", BucketAccounts=THEIRS)
    assert "access to bucket site is denied" in text
    assert '"s3:DeleteObject"' in text
    assert account.stacks == {}


def test_one_of_neither_account_is_not_taken_for_theirs(account: Account, template: Path) -> None:  # noqa: F811
    """Though it lets everybody look: renditions would go to a stranger."""
    account.buckets["site"] = Bucket(owner="999999999999", is_open=True)
    assert "access to bucket site is denied" in run(template, ExistingOutputBucket="site", BucketAccounts=THEIRS)
    assert account.stacks == {}


def test_buckets_of_another_account_are_used_and_not_changed(account: Account, template: Path) -> None:  # noqa: F811
    account.buckets |= {name: Bucket(owner=THEIRS, is_open=True) for name in ("theirs", "site")}
    account.buckets["mine"] = Bucket()
    given = {"ExistingOutputBucket": "site", "BucketAccounts": THEIRS}
    text = run(template, buckets=("theirs", "mine"), **given)
    assert "Done." in text
    assert f"Bucket theirs is of account {THEIRS}: nothing of it is changed" in text
    assert f"Bucket site is of account {THEIRS}" in text
    assert "aws events put-permission" in text
    stack = account.named("photos")
    assert stack is not None
    assert stack.parameters["EventBridgeSwitchedOn"] == "mine"
    tear_down(delete_data=True)
    assert {"theirs", "site", "mine"} <= set(account.buckets)
    assert account.buckets["theirs"].notifications == {}


def test_one_in_another_region_is_refused(account: Account, template: Path) -> None:  # noqa: F811
    account.buckets["theirs"] = Bucket(owner=THEIRS, is_open=True, region="us-west-2")
    text = run(template, buckets=("theirs",), BucketAccounts=THEIRS)
    assert f"bucket theirs of account {THEIRS} is in us-west-2: deploy there" in text
