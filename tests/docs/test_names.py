"""Names in the prose, between backticks, are names of something: settings, options, files, modules, log lines."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import click
import pytest
from botocore.session import Session

from pipeline.__main__ import cli
from pipeline.core.queue_names import QUEUES
from pipeline.core.settings import Settings
from pipeline.operations.check.check_command import OF_THE_ENDPOINT
from tests.docs.looks import recipe, variables
from tests.docs.pages import PAGES, ROOT, Code, blocks, spans, tables, template, text_of
from tests.docs.shell import commands
from tests.stack.iam import grants
from tests.stack.template import Stack

#: In capitals like a setting, and somebody else's.
FOREIGN = {
    "AWS_CA_BUNDLE": "any AWS client's",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "any AWS client's",
    "AWS_ENDPOINT_URL": "any AWS client's",
    "AWS_PROFILE": "any AWS client's",
    "AWS_REGION": "any AWS client's",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "any AWS client's",
    "CAPABILITY_IAM": "CloudFormation's",
    "HTTPS_PROXY": "any program's",
    "DEPLOYMENT_BLOCKED": "an answer of ECS",
    "FARGATE_SPOT": "a capacity provider of ECS",
    "PIPELINE_SETTINGS": "many settings in one",
    "PILLOW_BLOCKS_MAX": "Pillow's",
}
#: Actions of IAM that no operation is called after.
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
IAM_ONLY = {"s3:DeleteObjectVersion", "s3:GetBucketNotification", "s3:ListBucket", "s3:ListBucketVersions"}
#: Options of others than the verbs.
OTHERS = {
    "--build-arg": "docker's",
    "--require-hashes": "pip's",
    "--quick": "the benchmarks'",
    "--cpu-per-image": "benchmarks.scaling's",
}
PACKAGES = ("pipeline", "tasks", "bridge", "tests", "benchmarks")
SPANS = [span for page in PAGES for span in spans(page)]


def found(pattern: str) -> Iterator[tuple[Code, str]]:
    """Of all spans, what the pattern matches in them."""
    for span in SPANS:
        for match in re.finditer(pattern, span.text):
            yield span, match[0]


def test_settings_exist_and_their_values_are_within_bounds() -> None:
    wrong = []
    for span, text in found(r"(?<![\w.{-])[A-Z][A-Z0-9]*(_[A-Z0-9]+)+(=[\w.]+)?(?![\w-])"):
        name, _, value = text.partition("=")
        if name in variables():
            Settings.from_env({name: value})
        elif name not in FOREIGN and name not in _states() and not _is_flowers(name):
            wrong.append(f"{span}: {name} is no setting; somebody else's is named in FOREIGN")
    assert not wrong


@cache
def _states() -> frozenset[str]:
    """Of a stack, as CloudFormation calls them."""
    shape: Any = Session().get_service_model("cloudformation").shape_for("StackStatus")
    return frozenset(shape.enum)


def _is_flowers(name: str) -> bool:
    """Flower's own options, in capitals with its prefix, and those that are read here besides."""
    from flower import options  # noqa: F401 - defines them
    from tornado.options import options as defined

    option = name.removeprefix("FLOWER_").lower()
    read = text_of("pipeline/sqs/flower/options.py") + text_of("pipeline/sqs/flower/flowerconfig.py")
    oauth = "FLOWER_OAUTH2_KEY", "FLOWER_OAUTH2_SECRET", "FLOWER_OAUTH2_REDIRECT_URI"  # Flower reads them itself
    return name.startswith("FLOWER_") and (option in defined or f'"{name}"' in read or name in oauth)


@pytest.mark.parametrize("command", [each for each in commands() if "-m pipeline " in each.text], ids=str)
def test_verbs_and_options_exist(command: object) -> None:
    _check_options(str(command).partition("-m pipeline ")[2])


def test_verbs_and_options_exist_where_only_they_are_named() -> None:
    names = {name for name in cli.commands if name in {span.text.split(" ")[0] for span in SPANS}}
    assert names
    for span in SPANS:
        if span.text.split(" ")[0] in cli.commands and " -" in span.text:
            _check_options(span.text)
    known = {option for command in _all_commands(cli) for parameter in command.params for option in parameter.opts}
    known |= {"--help"}
    for span in SPANS:
        if re.fullmatch(r"--[a-z-]+", span.text):
            assert span.text in known | set(OTHERS), f"{span}: no verb has {span.text}"


def _all_commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _all_commands(command)


def _check_options(line: str) -> None:
    words = line.partition(" | ")[0].split()
    command: click.Command = cli
    while isinstance(command, click.Group):
        name = words.pop(0)
        assert name in command.commands, f"{line}: there is no {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        assert not word.startswith("-") or word in known, f"{line}: there is no {word}"
    parameters = template()["Parameters"]
    for word, value in pairwise(words):
        if word in ("-p", "--parameter"):
            assert value.partition("=")[0] in parameters, f"{line}: the template has no parameter {value}"


def test_parameters_of_the_template_exist() -> None:
    parameters = template()["Parameters"]
    for span, text in found(r"^-p \w+"):
        assert text.split()[1] in parameters, f"{span}: the template has no parameter {text}"


def test_make_targets_exist() -> None:
    for name in {text.split()[1] for _, text in found(r"\bmake [a-z-]+")}:
        recipe(name)


def test_files_exist() -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"out"}
    for span, text in found(r"^[\w.-]+(/[\w.*-]+)+/?$"):
        if text.split("/")[0] in tops:
            assert list(ROOT.glob(text.rstrip("/"))), f"{span}: there is no {text}"


def test_modules_exist() -> None:
    for span, text in found(rf"^({'|'.join(PACKAGES)})(\.\w+)+"):
        *path, last = text.split(".")
        try:
            importlib.import_module(text)
        except ImportError:
            assert hasattr(importlib.import_module(".".join(path)), last), f"{span}: there is no {text}"


def test_actions_of_iam_exist() -> None:
    for span, text in found(r"\b(s3|sqs|sns|ecs|cloudwatch):[A-Z]\w+(?!:)\b"):
        service, name = text.split(":")
        is_event = service == "s3" and name.startswith("Object")
        assert is_event or text in IAM_ONLY or name in _operations(service), f"{span}: there is no {text}"


@cache
def _operations(service: str) -> frozenset[str]:
    return frozenset(Session().get_service_model(service).operation_names)


def test_the_permissions_that_are_told_are_those_of_the_stack() -> None:
    told = set()
    for page in ("docs/broker.md", "docs/flower.md"):
        (rows,) = [rows[1:] for rows in tables(page) if rows[0][0] == "role"]
        for role, resource, actions in rows:
            name = resource.strip("`").replace("<prefix>", "photos-").replace("any", "*")
            named = [action if ":" in action else f"sqs:{action}" for action in actions.split(", ")]
            told |= {(role.lower(), name, action) for action in named}
    told = {each for each in told if each[0] != "programs that enqueue"}
    assert told == set(_granted())


def _granted() -> Iterator[tuple[str, str, str]]:
    """Role, queue or topic, action of the stack `photos`."""
    stack = Stack(template())
    for role in ("bridge", "worker", "flower"):
        for grant in grants(stack, f"{role.capitalize()}Role"):
            if grant.action.startswith(("sqs:", "sns:")):
                yield from ((role, resource.rsplit(":", 1)[-1], grant.action) for resource in grant.resources)


def test_who_may_write_where_is_as_the_stack_has_it() -> None:
    (rows,) = [rows[1:] for rows in tables("SECURITY.md") if rows[0][0] == "queue or topic"]
    told = {row[0].strip("`").replace("<prefix>", "photos-"): row[1] for row in rows}
    writers: dict[str, list[str]] = {}
    for role, name, action in _granted():
        if action in ("sqs:SendMessage", "sns:Publish"):
            writers.setdefault(name, []).append(role)
    assert told.pop("photos-events").startswith("S3, ")
    assert told == {name: ", ".join(sorted(roles)) for name, roles in writers.items()}


def test_actions_in_the_log_exist() -> None:
    said = {(str(span), text.split('"')[3]) for span, text in found(r'"action": "[a-z_-]+"')}
    said |= {("docs/broker.md", action) for action in _actions_of_the_table()}
    assert len(said) > 8
    for where, action in sorted(said):
        assert action in _logged(), f"{where}: no log line has the action {action}"


def _actions_of_the_table() -> list[str]:
    rows = next(rows for rows in tables("docs/broker.md") if "(`action`)" in rows[0][0])
    return [name for row in rows[1:] for name in re.findall(r"`([a-z_-]+)`", row[0])]


@cache
def _logged() -> frozenset[str]:
    """Of the sources, all actions that are written there; and the outcomes, which are actions too."""
    from bridge.disposition import EventOutcome

    sources = "\n".join(path.read_text() for package in PACKAGES[:3] for path in ROOT.joinpath(package).rglob("*.py"))
    return frozenset(re.findall(r'(?:"action": |_extra\()"([a-z_-]+)"', sources)) | {
        outcome.value for outcome in EventOutcome
    }


def test_the_table_of_test_folders_is_true() -> None:
    (rows,) = [rows for rows in tables("CONTRIBUTING.md") if rows[0][0] == "folder"]
    named = {row[0].strip("`") for row in rows[1:]}
    there = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*/test_*.py")}
    assert named == there


def test_the_checks_of_an_endpoint_are_counted() -> None:
    endpoint = len(OF_THE_ENDPOINT)
    of_one_bucket = 2  # the bucket, and its events
    told = {int(count) for count in re.findall(r"(\d+) checks", text_of("docs/other-servers.md"))}
    assert told == {endpoint, endpoint + len(QUEUES) + of_one_bucket}


def test_diagrams_of_text_hide_no_commands() -> None:
    for block in (block for page in PAGES for block in blocks(page) if block.language == "text"):
        assert not re.search(r"^\s*(\$ |python |celery |make )", block.text, re.MULTILINE), block
