"""How each command of the pages is tried: one table, in the order in which they are run.

A command that no entry matches fails ``test_commands.py``: give it a ``Run`` (a process that ends), a ``Stay`` (one
that is started, must get ready, and is stopped at the end), or, where it can't be run here, a ``Look`` with the reason
and a check of as much of it as can be checked. An entry that no page needs any more fails too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, PREFIX, REGION
from tests.docs import looks

#: What stands for what in the pages; replaced before a command or a snippet is run.
SUBSTITUTIONS = {
    ".venv/bin/": "",  # the environment of the tests comes first in PATH
    "s3://BUCKET/KEY": f"s3://{INPUT_BUCKET}/a/b.jpg",
    "s3://bucket/prefix": f"s3://{INPUT_BUCKET}/a/",
    "s3://bucket": f"s3://{INPUT_BUCKET}",
    "s3://uploads": f"s3://{INPUT_BUCKET}",
    "INPUT_BUCKET=uploads": f"INPUT_BUCKET={INPUT_BUCKET}",
    "OUTPUT_BUCKET=renditions": f"OUTPUT_BUCKET={OUTPUT_BUCKET}",
    "QUEUE_PREFIX=batch-images-": f"QUEUE_PREFIX={PREFIX}",
    "AWS_REGION=eu-west-1": f"AWS_REGION={REGION}",
    "[worker|bridge]": "worker",
    "--image …:": "--image registry/image:",
}


class Where(Enum):
    """What a command needs around it."""

    STAGE = "buckets, queues, topics, bridge and worker"
    ACCOUNT = "an empty account"
    MACHINE = "a home with two photos in ~/Pictures and two documents in ~/Documents"


@dataclass(frozen=True)
class Entry:
    pattern: str  # of the whole command


@dataclass(frozen=True)
class Run(Entry):
    says: str  # somewhere in what it prints
    where: Where = Where.STAGE
    status: int = 0
    answer: str = ""  # typed by a person
    append: str = ""  # what makes it go without a person, or without minutes of waiting
    before: str = ""  # a command that has to be run before it


@dataclass(frozen=True)
class Stay(Entry):
    ready: str  # somewhere in what it prints
    where: Where = Where.STAGE


@dataclass(frozen=True)
class Look(Entry):
    why: str
    check: Callable[[list[str]], None]


#: A stack on the emulator: with the part of the template that it is complete with (see ``emulated``).
FIRST = "python -m pipeline deploy --image registry/image:1 --yes --unchecked --template template.json"
#: The emulator can't take over buckets, and keeps log groups of a stack that is gone: each end begins anew.
CLEAN = (
    "python -c 'import os, urllib.request as u; "
    'u.urlopen(u.Request(os.environ["AWS_ENDPOINT_URL"] + "/moto-api/reset", method="POST"))\''
)
ON_EMULATOR = " --template template.json"
#: Of what the emulator knows nothing, it answers after several tries only.
UNCHECKED = f" --unchecked{ON_EMULATOR}"
#: On a busy machine the worker answers late; with a destination the command ends when it does.
PATIENTLY = ' --timeout 120 --destination "celery@$(hostname)"'
LONG = "minutes of measuring, on a machine that does nothing else"

ENTRIES: tuple[Entry, ...] = (
    # The processes, which stay for the commands below.
    Stay("python -m bridge", ready="bridge: polling"),
    Stay("celery -A pipeline worker.*", ready=" ready"),
    Stay("celery -A pipeline flower", ready="Visit me at"),
    Look("celery -A tasks (worker|flower)", "tests/acceptance/test_shop.py runs them", looks.nothing),
    Run(r"python -m pipeline health( \[worker\|bridge\])?", says="healthy: the"),
    # An operator's verbs. One of the objects lacks its thumbnail until `audit --repair`.
    Run("python -m pipeline explain .*", says="verdict: +Done"),
    Run("python -m pipeline audit .*--json", says='"complete": true'),  # all of it is younger
    Run("python -m pipeline audit", status=1, says="missing\t1"),
    Run("python -m pipeline audit --repair", status=1, answer="y\n", says="To be enqueued: 1 object,"),
    Run("python -m pipeline deadletters list", says="not JSON"),
    Run("python -m pipeline deadletters show .*", says="not JSON"),
    Run(r"python -m pipeline deadletters export \| jq .*", says="1 .*not JSON"),
    Run("python -m pipeline deadletters purge .*", answer="y\n", says="1 dead letter deleted"),
    Run("python -m pipeline deadletters redrive.*", says="sent back to queue|Nothing to send back"),
    Run(r"python -m pipeline backfill .* --dry-run \| wc -l", says="[1-9]"),
    Run("python -m pipeline backfill .*", says="objects? enqueued"),
    Run("python -m pipeline adopt .* --dry-run", says="price: +about"),
    Look(
        "python -m pipeline (adopt .*|audit) --stack .*",
        "needs ECS; tests/unit/test_stack_option.py has the option",
        looks.nothing,
    ),
    Run("python -m pipeline check", says="17 checks: nothing is wrong"),
    Run("python -m pipeline routes", says="tasks.resize → tasks.thumbnail"),
    Run("python -m pipeline routes .*", says="route (first_page|images)"),
    Run("python -m pipeline sweep", says="removed"),
    Run("celery -A pipeline inspect ping", append=PATIENTLY, says="pong"),
    Run("celery -A pipeline control rate_limit .*", append=PATIENTLY, says="new rate limit set"),
    # The embedded run.
    Run("python -m pipeline local .* --out out", where=Where.MACHINE, says="2 done, 0 failed, 0 skipped"),
    Stay("python -m pipeline local ~/Pictures --keep", where=Where.MACHINE, ready="Still running"),
    Stay("python -m pipeline local .* --watch", where=Where.MACHINE, ready="Watching for"),
    Stay("python -m pipeline local .* --keep --flower", where=Where.MACHINE, ready="Still running"),
    # A stack, from its making to its end.
    Look("python -m pipeline deploy --input-bucket .*", "the emulator has no EventBridge for S3", looks.nothing),
    Run("python -m pipeline deploy --image .*", where=Where.ACCOUNT, append=f" --yes{ON_EMULATOR}", says="Done"),
    Look(
        "python -m pipeline doctor", "needs a stack; tests/integration/test_deploy.py has it in deploy", looks.nothing
    ),
    Run("python -m pipeline deploy -p .*", where=Where.ACCOUNT, append=f" --yes{UNCHECKED}", says="Done"),
    Run("python -m pipeline deploy .*--dry-run", where=Where.ACCOUNT, append=UNCHECKED, says="Nothing (was|to) change"),
    Run(
        "python -m pipeline teardown .*",
        where=Where.ACCOUNT,
        before=f"{CLEAN}; {FIRST}",
        append=" --yes --no-drain",
        says="is gone",
    ),
    # What can't be run here.
    Look(
        "make (demo|test|check|bench|browser|referee|reference|site|lock|pin-base|sbom|audit-dependencies)",
        "sets up a virtual environment first",
        looks.target,
    ),
    Look("docker .*", "needs a daemon and a registry", looks.docker),
    Look("aws .*", "needs an account", looks.aws),
    Look(r"python -m pipeline live-check.*", "needs ECS; tests/stack runs it without", looks.nothing),
    Look(r"python -m benchmarks\..*", LONG, looks.benchmark),
    Look("pre-commit install", "changes the repository that it is run in", looks.hooks),
    Look("export .*", "it is run with each command of its block that follows", looks.exports),
    Look("celery (inspect|control|events)|make", "a name, nothing to type", looks.nothing),
)
