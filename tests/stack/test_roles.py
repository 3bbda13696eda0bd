"""The whole pipeline under the template's roles: everything it asks for is allowed, and nothing else is.

The template's buckets, queues, topics and roles are deployed on an emulator; bridge, worker and Flower run as
their task definitions say, each behind a gate that enforces its role and records what it asks for.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.stack.cloud import Cloud
from tests.stack.gate import SLOW
from tests.stack.iam import Call, Grant, grants
from tests.stack.template import Stack, load
from tests.support.waiting import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
LISTENS = re.compile(r"Visit me at http://[^:/]+:(\d+)")
ROLES = {"bridge": "BridgeRole", "worker": "WorkerRole", "flower": "FlowerRole"}

#: What a role may do although no run on an emulator can show that it does; and why it must.
UNSEEN: dict[tuple[str, ...], str] = {
    ("bridge", "sqs:ChangeMessageVisibility"): "an event that could not be handed on comes back after a back-off",
    ("worker", "ecs:UpdateTaskProtection"): "the agent's endpoint asks ECS on the worker's behalf",
    (
        "worker",
        "s3:ListBucket",
        "arn:aws:s3:::photos-output-123456789012-us-east-1",
    ): "a rendition was deleted meanwhile",
    ("worker", "s3:DeleteObject"): "removes a failure record after a good version, and renditions after a delete",
    ("flower", "ssmmessages:CreateControlChannel"): "ECS Exec's agent, for the port-forward",
    ("flower", "ssmmessages:CreateDataChannel"): "likewise",
    ("flower", "ssmmessages:OpenControlChannel"): "likewise",
    ("flower", "ssmmessages:OpenDataChannel"): "likewise",
}


@dataclass(frozen=True)
class Run:
    """A run that has ended: what was asked for, and where it happened."""

    cloud: Cloud
    stack: Stack
    calls: frozenset[tuple[str, Call]]
    denied: frozenset[tuple[str, Call]]
    checked: subprocess.CompletedProcess[str]  # the live check, run against it

    def asked(self, who: str) -> set[Call]:
        return {call for requester, call in self.calls if requester == who}


def _event(cloud: Cloud, key: str) -> str:
    """S3's event of an object's newest version; the emulator's own leave the version out."""
    head = cloud.client("s3").head_object(Bucket=cloud.input_bucket, Key=key)
    item = {"key": key, "eTag": head["ETag"].strip('"'), "versionId": head["VersionId"], "sequencer": "01"}
    return _put_event(cloud, item)


def _put_event(cloud: Cloud, item: dict[str, str]) -> str:
    entry = {"bucket": {"name": cloud.input_bucket}, "object": item}
    return json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entry}]})


def _flower(port: str, path: str, **fields: str) -> str:
    """A page; with fields, that which a form of it leads to."""
    login = base64.b64encode(b"flower:secret").decode()
    sent = urllib.parse.urlencode(fields).encode() if fields else None
    headers = {"Authorization": f"Basic {login}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", sent, headers)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(request, timeout=DEADLINE_S) as reply:
        text: str = reply.read().decode()
        return text


def _repair(port: str, cloud: Cloud) -> None:
    """Presses the buttons of Flower's pages of an object and of dead letters."""
    assert "does not exist" in _flower(port, "/object?uri=never.jpg")
    assert "Failed: " in _flower(port, "/object?uri=broken.jpg")
    assert "is enqueued" in _flower(port, "/object", action="make", uri=f"s3://{cloud.input_bucket}/broken.jpg")
    for queue in ("events", "tasks"):
        (letter,) = re.findall(r'id="letter-([^"]+)"', _flower(port, f"/dead-letters/{queue}"))
        assert "1 dead letter sent back" in _flower(port, f"/dead-letters/{queue}", action="redrive", id=letter)
    wait_until(lambda: cloud.depth("events-dlq") == cloud.depth("tasks-dlq") == 1, "they are dead again")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything that the containers do in their lives, once."""
    folder = tmp_path_factory.mktemp("roles")
    stack = Stack(load(), {"Flower": "repair"})  # all that Flower may have
    with ExitStack() as cleanup:
        cloud = Cloud(stack, folder)
        cleanup.callback(cloud.stop)
        cloud.deploy(Flower="repair")
        cloud.leave_queues_behind()
        cloud.guard({who: grants(stack, role) for who, role in ROLES.items()})
        photo = (SAMPLES / "rocket.jpg").read_bytes()
        cloud.start("bridge", "BridgeTask")
        cloud.put("a b/good.jpg", photo)
        asked = "cloudwatch:SetAlarmState"
        wait_until(lambda: asked in {call.action for _, call, _ in cloud.calls()}, "the bridge wakes a worker", 60)
        # Short, so that a slow task shows how its visibility is extended; likewise the claim on the control queue.
        cloud.start(
            "worker", "WorkerTask", "-n", "worker@test", MESSAGE_VISIBILITY_TIMEOUT_S="2", CONTROL_QUEUE_TTL_S="10"
        )
        cloud.start(
            "flower",
            "FlowerTask",
            "--port=0",
            FLOWER_BASIC_AUTH='{"username": "flower", "password": "secret"}',
            CONTROL_QUEUE_TTL_S="10",
        )
        cloud.put(f"{SLOW}.jpg", photo)
        cloud.put("broken.jpg", photo[:1000])
        cloud.send("events", _put_event(cloud, {"key": "gone.jpg", "eTag": "0", "sequencer": "01"}))  # deleted since
        cloud.put("versioned.jpg", photo)
        cloud.send("events", _event(cloud, "versioned.jpg"))
        cloud.send("events", "not an event")
        cloud.send("tasks", "not a task")
        wanted = {
            f"{kind}/{key}"
            for kind in ("resized", "thumbs")
            for key in ("a b/good.jpg", f"{SLOW}.jpg", "versioned.jpg")
        }
        wanted.add("failed/broken.jpg.json")
        try:
            wait_until(lambda: wanted <= cloud.outputs(), "every upload's end")
            wait_until(lambda: cloud.depth("events-dlq") == 1, "the dead event")
            wait_until(lambda: cloud.depth("tasks-dlq") == 1, "the dead task")
            wait_until(lambda: cloud.depth("tasks") + cloud.depth("events") == 0, "empty queues")
            wait_until(lambda: LISTENS.search(cloud.log("flower")), "Flower")
            (port,) = LISTENS.findall(cloud.log("flower"))
            wait_until(lambda: "worker@test" in _flower(port, "/api/workers?refresh=1"), "remote control")
            cloud.put("late.jpg", photo)
            wait_until(lambda: "late.jpg" in _flower(port, "/api/tasks"), "events at Flower")
            assert "photos-tasks-dlq" in _flower(port, "/broker")
            renewed = ("worker", "sqs:TagQueue"), ("flower", "sqs:TagQueue"), ("flower", "sqs:ListQueues")
            wait_until(lambda: set(renewed) <= {(who, call.action) for who, call, _ in cloud.calls()}, str(renewed))
            checked = cloud.live_check()
            _repair(port, cloud)
        except AssertionError as exc:
            tails = {who: cloud.log(who)[-3000:] for who in ROLES}
            denied = [entry for entry in cloud.calls() if not entry[2]]
            raise AssertionError(
                f"{exc}\ndenied: {denied}\n" + "\n".join(f"== {who}\n{t}" for who, t in tails.items())
            ) from exc
        for who in ("bridge", "flower", "worker"):
            cloud.end(who)
        calls = cloud.calls()
        yield Run(
            cloud,
            stack,
            frozenset((who, call) for who, call, _ in calls),
            frozenset((who, call) for who, call, allowed in calls if not allowed),
            checked,
        )


def test_nothing_that_the_pipeline_asks_for_is_denied(run: Run) -> None:
    assert run.denied == frozenset()
    assert {who for who, _ in run.calls} == set(ROLES)


@pytest.mark.parametrize("who", ROLES)
def test_nothing_more_is_allowed(run: Run, who: str) -> None:
    """Each action of a statement on each of its resources is the only one that allows something asked for."""
    narrow = [
        Grant(grant.sid, grant.action, (resource,))
        for grant in grants(run.stack, ROLES[who])
        for resource in grant.resources
    ]
    superfluous = []
    for grant in narrow:
        others = [other for other in narrow if other is not grant]
        asked = [call for call in run.asked(who) if grant.allows(call)]
        if all(any(other.allows(call) for other in others) for call in asked):
            superfluous.append((grant.sid, grant.action, grant.resources[0]))
    assert [entry for entry in superfluous if (who, entry[1]) not in UNSEEN and (who, *entry[1:]) not in UNSEEN] == []


def test_unseen_actions_exist_in_the_template(run: Run) -> None:
    granted = {(who, grant.action) for who, role in ROLES.items() for grant in grants(run.stack, role)}
    assert {entry[:2] for entry in UNSEEN} <= granted


def test_the_gate_denies_what_the_role_does_not_allow(run: Run) -> None:
    for service, call in {
        "s3": lambda client: client.get_object(Bucket=run.stack.resolve({"Ref": "InputBucket"}), Key="a b/good.jpg"),
        "sqs": lambda client: client.get_queue_url(QueueName="photos-tasks-dlq"),
        "sns": lambda client: client.publish(TopicArn=run.stack.resolve({"Ref": "EventsTopic"}), Message="x"),
    }.items():
        with pytest.raises(ClientError) as raised:
            call(run.cloud.client(service, "bridge"))
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_live_check_follows_images_to_their_renditions(run: Run) -> None:
    assert run.checked.returncode == 0, run.checked.stdout + run.checked.stderr
    assert "OK: 5 images in, 5 of each rendition out, no dead letters." in run.checked.stdout


def test_the_processes_leave_no_queue_behind(run: Run) -> None:
    urls = run.cloud.client("sqs").list_queues()["QueueUrls"]
    assert sorted(url.rpartition("/")[2] for url in urls) == [
        f"photos-{n}" for n in ("events", "events-dlq", "tasks", "tasks-dlq")
    ]
