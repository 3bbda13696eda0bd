"""Checks that the image exists and was built for the right CPU; only for ECR."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws import clients
from pipeline.aws.errors import code, describe_error, is_denied
from pipeline.operations.check_results import CheckResult, bad, ok, unknown

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<name>[a-z0-9._/-]+?)(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_INDEXES = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]
_MANIFESTS = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]
#: The template's names of CPUs, by the images' names.
_CPUS = {"amd64": "X86_64", "arm64": "ARM64"}
_BUILD = {
    "X86_64": "docker build --platform linux/amd64",
    "ARM64": "docker build --platform linux/arm64",
}


def check(image: str, cpu: str) -> CheckResult:
    """``cpu``: the parameter CpuArchitecture."""
    found = _ECR.fullmatch(image)
    if found is None:
        return unknown("image", f"{image} is not in ECR, and other registries are not checked")
    try:
        return _architecture(image, cpu, _built_for(found))
    except _Missing:
        return bad("image", f"there is no {image}", f"push it: docker push {image}")
    except ClientError as exc:
        return _refused(found, exc)
    except (BotoCoreError, urllib.error.URLError, OSError, ValueError) as exc:
        return unknown("image", f"ECR can't be queried: {describe_error(exc)}")


def _refused(image: re.Match[str], exc: ClientError) -> CheckResult:
    if code(exc) == "RepositoryNotFoundException":
        return bad(
            "image",
            f"there is no repository {image['name']} in account {image['account']}, {image['region']}",
            "make it with cloudformation/ecr.yaml, or correct the image's name",
        )
    advice = "ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on it would allow that" if is_denied(exc) else ""
    return unknown("image", f"ECR can't be queried: {describe_error(exc)}", advice)


class _Missing(Exception):
    pass


def _architecture(image: str, cpu: str, built_for: set[str]) -> CheckResult:
    if cpu in built_for:
        return ok("image", f"{image} is there, for {cpu}")
    other = ", ".join(sorted(built_for)) or "an unknown CPU"
    return bad(
        "image",
        f"{image} was built for {other}, and CpuArchitecture is {cpu}",
        f"build it with `{_BUILD[cpu]}`" + (f", or deploy with -p CpuArchitecture={other}" if other in _BUILD else ""),
    )


def _built_for(found: re.Match[str]) -> set[str]:
    """The image's CPUs, as the template names them. Raises ``_Missing``, and boto3's and urllib's errors."""
    ecr = clients.client("ecr", found["region"])
    repository = {"registryId": found["account"], "repositoryName": found["name"]}
    wanted = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    answer = ecr.batch_get_image(**repository, imageIds=[wanted], acceptedMediaTypes=_INDEXES + _MANIFESTS)
    if not answer.get("images"):
        raise _Missing
    manifest: dict[str, Any] = json.loads(answer["images"][0]["imageManifest"])
    if "manifests" in manifest:
        platforms = [entry.get("platform", {}) for entry in manifest["manifests"]]
    else:
        layer = ecr.get_download_url_for_layer(**repository, layerDigest=manifest["config"]["digest"])
        with urllib.request.urlopen(layer["downloadUrl"], timeout=10) as response:  # noqa: S310 - ECR's own https URL
            platforms = [json.load(response)]
    named = {platform.get("architecture", "") for platform in platforms if platform.get("os") in (None, "", "linux")}
    return {_CPUS.get(name, name) for name in named if name not in ("", "unknown")}
