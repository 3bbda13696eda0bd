"""Fixtures of all tests: an AWS server process, and the environment that points at it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from pipeline.aws import clients
from pipeline.core.settings import Settings
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET, RESULTS_QUEUE, Emulator, make_resources
from tests.support.app_pools import forget_closed
from tests.support.emulator import QuickEmulator
from tests.support.order import dealt
from tests.support.processes import owned_processes
from tests.support.warm_start import WarmStart

# How long an example takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Where it is set, each of the hundreds of processes that are started would compile all of our modules for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nothing in the tests may ever reach a real account.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # the discard port: unreachable until a test asks for a server
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one process alone the order is that of the files."""
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        items[:] = dealt(items, lambda item: item.nodeid, processes)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what killed processes leave: a worker that is killed can't remove its ``pymp-…``."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    tempfile.tempdir = None  # found anew
    yield
    tempfile.tempdir = None
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before


@pytest.fixture(autouse=True)
def _processes() -> Iterator[None]:
    """What a test has started ends with it, in whatever session it is, and also when the test fails."""
    with owned_processes():
        yield


@pytest.fixture(autouse=True)
def _pools() -> None:
    """A test can publish, also with an app whose pool an earlier one has closed."""
    forget_closed()


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """One server process for the whole run; tests keep apart by ``stack``, which empties it."""
    with QuickEmulator() as server:
        yield server


@pytest.fixture(scope="session")
def warm_start() -> Iterator[WarmStart]:
    """What starts the many commands that are tried, at a fraction of an interpreter's cost."""
    with WarmStart() as ready:
        yield ready


@pytest.fixture
def stack(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An empty server with the stack's buckets and queues, and this process's environment pointed at it."""
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{emulator.endpoint}/moto-api/reset", method="POST")).close()
    make_resources(emulator)
    for name in set(os.environ) - set(emulator.environ()):
        monkeypatch.delenv(name)
    for name, value in emulator.environ().items():
        monkeypatch.setenv(name, value)
    for name, value in {
        "INPUT_BUCKET": INPUT_BUCKET,
        "OUTPUT_BUCKET": OUTPUT_BUCKET,
        "QUEUE_PREFIX": "local-",
        "POLL_WAIT_S": "0",
    }.items():
        monkeypatch.setenv(name, value)
    clients.forget_clients()
    sqs = emulator.client("sqs")
    for queue in ("local-events", RESULTS_QUEUE):
        sqs.purge_queue(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"])  # of S3's test events
    yield Settings.from_env()
    clients.forget_clients()
