"""What a worker is started with, and what of it is tried by which test; a table of docs/celery-on-sqs.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.marked import renewed

ROOT = Path(__file__).parents[2]
BEGINS, ENDS = "<!-- matrix: python -m tests.public_reports -->\n", "<!-- end of matrix -->\n"


@dataclass(frozen=True)
class Cell:
    what: str
    how: str
    test: str  # path::name

    @property
    def row(self) -> str:
        return f"| {self.what} | {self.how} | `{self.test.rpartition('/')[2]}` |"


SHOP, CASES, WORKER = (
    "tests/acceptance/test_shop.py",
    "tests/public_reports/",
    "tests/integration/test_broker_worker.py",
)
CELLS = (
    Cell("pool prefork", "supported", f"{SHOP}::test_a_day_in_the_shop"),
    Cell("pool solo", "supported; a running task blocks its worker", f"{SHOP}::test_other_pools"),
    Cell(
        "pool threads",
        "supported; a thread can't be ended, so there is no hard time limit",
        f"{SHOP}::test_other_pools",
    ),
    Cell(
        "pool gevent",
        "refused at start",
        f"{CASES}test_options.py::test_what_is_refused_is_a_sentence_before_the_worker_starts",
    ),
    Cell(
        "pool eventlet",
        "refused at start; tested by its name, since it is not installed",
        f"{CASES}test_receiving.py::test_eventlet_is_refused",
    ),
    Cell("FIFO queues", "refused", f"{CASES}test_install.py::test_a_fifo_queue_is_refused"),
    Cell("several queues", "supported", f"{SHOP}::test_a_day_in_the_shop"),
    Cell("a choice of queues (-Q)", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell(
        "a queue that does not exist or is not for tasks (-Q)",
        "refused",
        f"{CASES}test_options.py::test_what_is_refused_is_a_sentence_before_the_worker_starts",
    ),
    Cell("autoscale", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell("max-tasks-per-child", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell("max-memory-per-child", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell("beat in the worker (-B)", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell("celery multi", "supported", f"{CASES}test_options.py::test_worker_options"),
    Cell(
        "a proxy (`HTTPS_PROXY`)",
        "supported",
        "tests/integration/test_trust.py::test_a_proxy_is_used_but_for_the_hosts_that_need_none",
    ),
    Cell(
        "your own certificate authority (`AWS_CA_BUNDLE`)",
        "supported",
        "tests/integration/test_trust.py::test_an_own_ca_is_trusted_where_aws_is_told_to",
    ),
    Cell("a session token", "supported", f"{CASES}test_sending.py::test_the_session_token_is_sent"),
    Cell("a profile (`AWS_PROFILE`)", "supported", "tests/integration/test_credentials.py::test_a_profile"),
    Cell(
        "a container's credentials (`AWS_CONTAINER_CREDENTIALS_FULL_URI`)",
        "supported",
        "tests/integration/test_credentials.py::test_a_container",
    ),
    Cell(
        "a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`)",
        "supported",
        "tests/integration/test_credentials.py::test_a_web_identity",
    ),
    Cell(
        "an endpoint with an IPv6 address",
        "supported",
        "tests/integration/test_credentials.py::test_an_address_of_ipv6",
    ),
    Cell("Django", "supported", "tests/integration/test_hosts.py::test_django"),
    Cell("gunicorn with --preload", "supported", "tests/integration/test_hosts.py::test_gunicorn_with_preload"),
    Cell(
        "a program that forks while its threads publish",
        "supported",
        f"{SHOP}::test_children_of_a_program_whose_threads_publish_publish_too",
    ),
)


def table() -> str:
    rows = ["| what | how | tested by |", "|---|---|---|", *(cell.row for cell in CELLS)]
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    return renewed(page, BEGINS, ENDS, table())
