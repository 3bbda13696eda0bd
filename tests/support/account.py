"""An account as AWS gives it to one who has just signed up, on the emulator."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.deploy import changes, drain
from pipeline.local.stack import Emulator
from tests.stack.template import emulated, load

Run = Callable[..., Result]


@contextmanager
def signed_in(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An empty account, which this process's clients are pointed at; nothing else is in the environment."""
    empty_account(emulator)
    for name in set(os.environ) - set(emulator.environ()):
        monkeypatch.delenv(name)
    for name, value in emulator.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(changes, "POLL_S", 0)
    monkeypatch.setattr(drain, "POLL_S", 0)
    clients.forget_clients()
    yield emulator
    clients.forget_clients()


def runner(folder: Path, verbs: tuple[str, ...], *always: str) -> Run:
    """Runs a verb on the stack `photos`, ``verbs`` with the part of the template that the server is complete with.

    ``always``: what those verbs are given, too.
    """
    template = folder / "batch.json"
    template.write_text(emulated(load()))

    def invoke(verb: str, *arguments: str) -> Result:
        options = ["--template", str(template), *always] if verb in verbs else []
        return CliRunner().invoke(cli, [verb, "--stack", "photos", *options, *arguments])

    return invoke


def empty_account(emulator: Emulator) -> None:
    """Forgets all; the default VPC then leads to the internet, which the emulator's leaves out."""
    request = urllib.request.Request(f"{emulator.endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(request).close()
    ec2 = emulator.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    for table in ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]:
        ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


def push_image(emulator: Emulator, repository: str, tag: str, region: str) -> None:
    """As `docker push` of an image that was built for both CPUs."""
    session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=region)
    ecr = session.client("ecr", endpoint_url=emulator.endpoint)
    kind = "application/vnd.oci.image"
    parts = [
        {
            "digest": "sha256:" + cpu[0] * 64,
            "mediaType": f"{kind}.manifest.v1+json",
            "size": 1,
            "platform": {"os": "linux", "architecture": cpu},
        }
        for cpu in ("amd64", "arm64")
    ]
    manifest = {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": parts}
    ecr.create_repository(repositoryName=repository)
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)
