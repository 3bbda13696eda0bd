"""The template's stack on an emulator behind the gate, and its containers as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import boto3

from pipeline.sqs.monitoring.claimed_queue import APP, APP_TAG, UNTIL_TAG
from tests.stack.gate import grants_as_json
from tests.stack.iam import Call, Grant
from tests.stack.template import PSEUDO, Stack, emulated

ROOT = Path(__file__).parents[2]


class Cloud:
    """The gate's process, with the template deployed behind it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder
        with (folder / "gate.log").open("wb") as log:
            self._gate = subprocess.Popen(
                [sys.executable, "-m", "tests.stack.gate"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._gate.stdout is not None
        self.endpoint = self._gate.stdout.readline().strip()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self.input_bucket, self.output_bucket = (
            stack.resolve(stack.template["Outputs"][f"{side}BucketName"]["Value"]) for side in ("Input", "Output")
        )

    def client(self, service: str, who: str = "deployer") -> Any:
        if (service, who) not in self._clients:
            session: Any = boto3.Session(
                aws_access_key_id=who, aws_secret_access_key="x", region_name=PSEUDO["AWS::Region"]
            )
            self._clients[service, who] = session.client(service, endpoint_url=self.endpoint)
        return self._clients[service, who]

    def deploy(self, **parameters: str) -> None:
        """``parameters``: those that the stack was made with, in the form in which CloudFormation takes them."""
        given = {"Image": "i", "VpcId": "vpc-1", "SubnetIds": "subnet-1"} | parameters
        entries = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
        self.client("cloudformation").create_stack(
            StackName=PSEUDO["AWS::StackName"],
            TemplateBody=emulated(self.stack.template, "AWS::Events::Rule"),
            Parameters=entries,
        )
        bucket = self.stack.resources().get("InputBucket", {}).get("Properties")
        if bucket is None:
            return
        # What the emulator's CloudFormation leaves out.
        s3 = self.client("s3")
        s3.put_bucket_versioning(Bucket=self.input_bucket, VersioningConfiguration=bucket["VersioningConfiguration"])
        queues = [
            {"QueueArn": entry["Queue"], "Events": [entry["Event"]]}
            for entry in bucket["NotificationConfiguration"]["QueueConfigurations"]
        ]
        s3.put_bucket_notification_configuration(
            Bucket=self.input_bucket, NotificationConfiguration={"QueueConfigurations": queues}
        )

    def leave_queues_behind(self) -> None:
        """What killed processes have left: queues whose claim has run out."""
        sqs = self.client("sqs")
        for name in ("0123456789abcdef0123-pidbox", "celeryev-0123456789abcdef0123"):
            tags = {APP_TAG: APP, UNTIL_TAG: "0"}
            sqs.create_queue(QueueName=f"{PSEUDO['AWS::StackName']}-{name}", tags=tags)

    def guard(self, granted: dict[str, tuple[Grant, ...]]) -> None:
        self._control("grants", grants_as_json(granted))

    def encrypt(self, keys: dict[str, str]) -> None:
        """From now on what is read from or written to these buckets needs their key of KMS."""
        self._control("keys", json.dumps(keys).encode())

    def calls(self) -> list[tuple[str, Call, bool]]:
        return [(who, Call(action, on), allowed) for who, action, on, allowed in self._control("calls", None)]

    def _control(self, what: str, body: bytes | None) -> Any:
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_gate/{what}", body), timeout=60) as reply:
            return json.load(reply)

    def start(self, who: str, task: str, *arguments: str, **variables: str) -> None:
        """One of the containers: its command and environment are those of its task definition."""
        (container,) = self.stack.properties(task)["ContainerDefinitions"]
        command = [str(word) for word in container["Command"]]
        celery = [sys.executable, "-m", "tests.support.one_server", "celery"]
        program = {"python": [sys.executable], "celery": celery}[command[0]]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environ |= {entry["Name"]: str(entry["Value"]) for entry in container["Environment"]}
        environ |= {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": who, "AWS_SECRET_ACCESS_KEY": "x"}
        environ |= {
            "AWS_EC2_METADATA_DISABLED": "true",
            "HEALTH_FOLDER": str(self._folder),
            "POLL_WAIT_S": "1",
            **variables,
        }
        with (self._folder / f"{who}.log").open("wb") as log:
            self._children[who] = subprocess.Popen(
                [*program, *command[1:], *arguments],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, who: str) -> None:
        child = self._children.pop(who)
        child.send_signal(signal.SIGTERM)
        child.wait(60)

    def log(self, who: str) -> str:
        return (self._folder / f"{who}.log").read_text(errors="replace")

    def depth(self, queue: str) -> int:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=f"{PSEUDO['AWS::StackName']}-{queue}")["QueueUrl"]
        # Not those that are delayed: a second look at an object waits in the queue for a while.
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def put(self, key: str, body: bytes) -> None:
        self.client("s3").put_object(Bucket=self.input_bucket, Key=key, Body=body)

    def outputs(self) -> set[str]:
        found = self.client("s3").list_objects_v2(Bucket=self.output_bucket).get("Contents", [])
        return {entry["Key"] for entry in found}

    def send(self, queue: str, body: str) -> None:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=f"{PSEUDO['AWS::StackName']}-{queue}")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=body)

    def live_check(self) -> subprocess.CompletedProcess[str]:
        """The verb that a person runs on AWS, as the one who deployed; it needs nothing of the pipeline's settings."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environ |= {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": "deployer", "AWS_SECRET_ACCESS_KEY": "x"}
        environ["AWS_REGION"] = PSEUDO["AWS::Region"]
        options = [
            "--stack",
            PSEUDO["AWS::StackName"],
            "--images",
            "5",
            "--poll",
            "0.2",
            "--patience",
            "60",
            "--without-ecs",
        ]
        command = [sys.executable, "-m", "pipeline", "live-check", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=ROOT)

    def stop(self) -> None:
        for child in self._children.values():
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert self._gate.stdin is not None
        assert self._gate.stdout is not None
        self._gate.stdin.close()
        self._gate.wait(10)
        self._gate.stdout.close()
