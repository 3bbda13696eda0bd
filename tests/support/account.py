"""An account as AWS gives it to one who has just signed up, on the emulator."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import boto3

from pipeline.local.stack import Emulator


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
