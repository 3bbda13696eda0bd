"""What can be checked of a command that can't be run here. Each takes its words, and raises ``AssertionError``."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import jmespath
from botocore.session import Session

from pipeline.core.settings import Settings
from tests.docs.pages import ROOT, template, text_of

Check = Callable[[list[str]], None]

#: Commands of the AWS CLI that are not calls of a service's API, with their options.
#: https://docs.aws.amazon.com/cli/latest/reference/
AWS_EXTRAS = {
    ("cloudformation", "deploy"): {"--stack-name", "--template-file", "--capabilities", "--parameter-overrides"},
    ("ecr", "get-login-password"): set(),
    ("logs", "tail"): {"--follow", "--since", "--filter-pattern"},
    ("s3", "cp"): {"--recursive"},
    ("s3", "ls"): {"--recursive"},
}
AWS_GLOBAL = {"--query", "--region", "--output", "--profile"}


def nothing(_words: list[str]) -> None:
    """For what is only named, not to be typed."""


def target(words: list[str]) -> None:
    """``make X``: the target exists, and with all that it depends on."""
    assert words[0] == "make"
    recipe(words[1])


def recipe(name: str) -> list[str]:
    """What a target would run; its own lines come last."""
    # The tests may run under a make themselves, which this one has nothing to do with.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", name]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"make {name}: {done.stderr}"
    return done.stdout.splitlines()


def benchmark(words: list[str]) -> None:
    """``python -m benchmarks.x --option``: module and options exist."""
    found = importlib.util.find_spec(words[2])
    assert found is not None, f"there is no {words[2]}"
    assert found.origin is not None
    _options_in(words, Path(found.origin).read_text(encoding="utf-8"))


def _options_in(words: list[str], source: str) -> None:
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{word} is no option of {' '.join(words)}"


def docker(words: list[str]) -> None:
    match words[1:]:
        case ["build", "-t", name, folder]:
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)*:[\w.-]+", name), f"{name} names no image"
            assert (ROOT / folder / "Dockerfile").is_file()
        case ["login", "-u", "AWS", "--password-stdin", host]:
            assert re.fullmatch(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com", host), f"{host} is no registry of ECR"
        case ["push", name]:
            built = f"docker build -t {name} ."
            assert built in text_of("docs/start-bucket.md"), f"{name} is pushed, but nothing says to build it"
        case ["build"]:
            pass  # only named
        case _:
            raise AssertionError(f"docker {' '.join(words[1:])}: say here what to check of it")


def hooks(words: list[str]) -> None:
    assert words == ["pre-commit", "install"]
    assert (ROOT / ".pre-commit-config.yaml").is_file()
    assert "\npre-commit==" in text_of("requirements-dev.txt")


def exports(words: list[str]) -> None:
    """Variables that the settings, or any AWS client, understand."""
    values = dict(word.split("=", 1) for word in words[1:])
    assert values, "nothing is exported"
    known = variables()
    for name in values:
        assert name in known or name.startswith("AWS_"), f"{name} is no setting"
    Settings.from_env(values)


def variables() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def aws(words: list[str]) -> None:
    """A call of the AWS CLI, against botocore's models: service, operation, names of parameters."""
    service, command, *rest = words[1:]
    options = {word for word in rest if word.startswith("--")}
    for option, value in pairwise(rest):
        if option == "--query":
            jmespath.compile(value)
        if option == "--template-file":
            assert (ROOT / value).is_file(), f"there is no {value}"
    extra = AWS_EXTRAS.get((service, command))
    if extra is not None:
        unknown = options - extra - AWS_GLOBAL
        assert not unknown, f"aws {service} {command} has no {unknown}"
        if (service, command) == ("logs", "tail"):
            _group(rest[0])
        return
    model = Session().get_service_model(service)
    operations = {dashed(name): name for name in model.operation_names}
    assert command in operations, f"{service} has no {command}"
    shape = model.operation_model(operations[command]).input_shape
    members: Mapping[str, Any] = {} if shape is None else shape.members  # type: ignore[attr-defined]
    unknown = options - AWS_GLOBAL - {f"--{dashed(name)}" for name in members}
    assert not unknown, f"aws {service} {command} has no {unknown}"
    required = set() if shape is None else {f"--{dashed(name)}" for name in shape.metadata.get("required", ())}
    required |= {f"--{dashed(name)}" for name in getattr(shape, "required_members", ())}
    assert required <= options, f"aws {service} {command} needs {required - options}"


def dashed(name: str) -> str:
    """``DescribeServices`` as the command line spells it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _group(name: str) -> None:
    """A log group of the stack that the pages call ``batch-images``."""
    written = {
        resource["Properties"]["LogGroupName"]["Fn::Sub"].replace("${AWS::StackName}", "batch-images")
        for resource in template()["Resources"].values()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    assert name in written, f"the stack has the log groups {written}"
