"""Flower's options: who may see it, what it costs, and what of Flower itself must stay as it is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flower.api.control
import flower.events
import flower.options
import flower.urls
import flower.views
import flower.views.broker
import pytest
from flower.utils.broker import BrokerBase
from tornado.web import url

from pipeline.celery import make_app
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.settings import Settings
from pipeline.sqs.flower import options as ours
from pipeline.sqs.flower.broker_page import TEMPLATE, Ages, SqsBrokerView
from pipeline.sqs.flower.replies import UNANSWERED
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]


@dataclass
class Options:
    """Flower's options as far as access depends on them, with Flower's defaults."""

    address: str = ""
    basic_auth: list[str] | None = None
    auth: str = ""
    unix_socket: str = ""
    read_only: bool = False


# --- who may see it ---


def test_without_a_password_it_listens_on_this_machine_and_shows_no_buttons(caplog: pytest.LogCaptureFixture) -> None:
    assert ours.access(Options(), {}) == {"address": "127.0.0.1", "read_only": True}
    assert "No password is set: Flower listens on this machine only" in caplog.text


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_a_loopback_address_needs_no_password(address: str) -> None:
    assert ours.access(Options(address=address), {})["address"] == address


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "example.org", "128.0.0.1", "*"])  # noqa: S104
def test_any_other_address_without_a_password_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="FLOWER_BASIC_AUTH=user:password"):
        ours.access(Options(address=address), {})
    with pytest.raises(ConfigError):  # the API being open is no reason
        ours.access(Options(address=address), {"FLOWER_UNAUTHENTICATED_API": "true"})


@pytest.mark.parametrize("options", [Options(basic_auth=["u:p"]), Options(auth="a@example.org")])
def test_with_a_password_or_oauth_everything_is_as_it_was_asked_for(options: Options) -> None:
    options.address = "0.0.0.0"  # noqa: S104
    assert ours.access(options, {}) == {}


def test_buttons_without_a_password_are_a_choice_and_it_says_what_that_means(caplog: pytest.LogCaptureFixture) -> None:
    assert ours.access(Options(), {"FLOWER_UNAUTHENTICATED_API": "1"})["read_only"] is False
    assert "anything that runs here may control the workers" in caplog.text
    assert ours.access(Options(read_only=True), {"FLOWER_UNAUTHENTICATED_API": "1"})["read_only"] is True


def test_a_unix_socket_is_not_a_public_address() -> None:
    assert ours.access(Options(unix_socket="/run/flower", address="0.0.0.0"), {})["read_only"] is True  # noqa: S104


@pytest.mark.parametrize(
    ("environ", "arguments", "status", "says"),
    [
        ({}, ["--address=0.0.0.0"], 1, "Flower would be open to everyone who reaches 0.0.0.0"),
        ({"FLOWER_ADDRESS": "0.0.0.0"}, [], 1, "FLOWER_BASIC_AUTH=user:password"),  # noqa: S104
        ({"QUEUE_PREFIX": "a b"}, [], 1, "QUEUE_PREFIX='a b'"),
    ],
)
def test_the_real_command_refuses_in_one_line(
    environ: dict[str, str], arguments: list[str], status: int, says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "pipeline", "flower", "--port=0", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode != 0
    assert says in done.stderr
    if "QUEUE_PREFIX" not in environ:
        assert done.returncode == status
        assert "Traceback" not in done.stderr


# --- its options ---


def configured(environ: dict[str, str], **options: Any) -> dict[str, Any]:
    return ours.configure(Options(**options), environ)


def test_it_never_asks_workers_to_send_events_and_is_bounded() -> None:
    chosen = configured({})
    assert chosen["enable_events"] is False
    assert chosen["max_tasks"] == 10_000
    assert "persistent" not in chosen


def test_the_environment_wins_over_the_file() -> None:
    chosen = configured({"FLOWER_MAX_TASKS": "5"})
    assert "max_tasks" not in chosen
    assert configured({"FLOWER_DB": "/data/flower"})["persistent"] is True
    assert "persistent" not in configured({"FLOWER_DB": "/data/flower", "FLOWER_PERSISTENT": "false"})


def test_a_generated_secret_is_a_password_too() -> None:
    generated = '{"username": "flower", "password": "p,w:1"}'
    assert configured({"FLOWER_BASIC_AUTH": generated}, basic_auth=["x"])["basic_auth"] == ["flower:p,w:1"]
    assert "basic_auth" not in configured({"FLOWER_BASIC_AUTH": "u:p"}, basic_auth=["u:p"])
    for broken in ("{", '{"username": "u"}', "{}"):
        with pytest.raises(ConfigError, match="FLOWER_BASIC_AUTH") as caught:
            configured({"FLOWER_BASIC_AUTH": broken}, basic_auth=["x"])
        assert '"u"' not in str(caught.value)


def test_every_option_is_one_that_flower_has_and_of_its_type() -> None:
    known = flower.options.default_options._options
    for name, value in configured({}).items():
        option = known[name.replace("_", "-")]
        values = value if option.multiple else [value]
        assert all(isinstance(each, option.type) for each in values), name


# --- what of Flower is relied on ---


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower.urls, "handlers", list(flower.urls.handlers))
    monkeypatch.setattr(flower.urls, "settings", dict(flower.urls.settings))
    monkeypatch.setattr(flower.views, "Broker", flower.views.Broker)
    monkeypatch.setattr(flower.events, "PrometheusMetrics", flower.events.PrometheusMetrics)
    handler = flower.api.control.ControlHandler
    monkeypatch.setattr(handler, "error_reason", handler.error_reason)
    ours.install(make_app(Settings.from_env({"QUEUE_PREFIX": "x-"})).sqs)


@pytest.mark.usefixtures("installed")
def test_the_broker_page_and_the_metrics_are_ours() -> None:
    (route,) = [route for route in flower.urls.handlers if getattr(route, "name", None) == "broker"]
    assert route.handler_class is SqsBrokerView
    assert flower.events.PrometheusMetrics.__module__ == "pipeline.sqs.flower.prometheus"
    broker = flower.views.Broker("any", http_api=None, broker_options={}, broker_use_ssl=None)
    assert isinstance(broker, BrokerBase)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("replies", "says"),
    [
        ([{"w": {"error": "events is not for tasks"}}], "events is not for tasks"),
        ([{"other": {"ok": "done"}}, {"w": {"error": "no"}}], "no"),
        ([{"w": {}}], "it answered {}"),
        ([], UNANSWERED),
        ([{"other": {"ok": "done"}}], UNANSWERED),
    ],
)
def test_flower_says_why_a_command_failed(replies: list[dict[str, Any]], says: str) -> None:
    handler = object.__new__(flower.api.control.WorkerPoolGrow)
    assert handler.error_reason("w", replies) == says


def test_a_flower_without_its_places_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower.urls, "handlers", [url(r"/else", flower.views.broker.BrokerView, name="else")])
    monkeypatch.setattr(flower.views, "Broker", flower.views.Broker)
    with pytest.raises(ConfigError, match="version of Flower"):
        ours.install(make_app(Settings.from_env({})).sqs)


def test_flower_uses_the_places_where_ours_are_put() -> None:
    """Each is looked up by name when it is used, so that replacing the name is enough."""
    view = flower.views.BaseHandler.get_broker.__code__.co_names
    assert "Broker" in view
    assert "PrometheusMetrics" in flower.events.get_prometheus_metrics.__code__.co_names
    assert "observe_task" in flower.events.EventsState.event.__code__.co_names
    for button in ("WorkerPoolGrow", "WorkerPoolShrink", "WorkerQueueAddConsumer", "WorkerQueueCancelConsumer"):
        assert "error_reason" in getattr(flower.api.control, button).post.__wrapped__.__code__.co_names
    assert flower.options.default_options._options["conf"].value() == "flowerconfig.py"


def test_the_page_s_template_extends_flower_s() -> None:
    stock = Path(flower.views.__file__).parents[1] / "templates" / "base.html"
    assert "{% block container %}" in stock.read_text()
    assert "{% block extra_scripts %}" in stock.read_text()
    assert TEMPLATE.is_file()


# --- the age of the oldest message ---


class CloudWatch:
    """Answers as CloudWatch does: newest value first, none for a queue that has no data."""

    def __init__(self, ages: dict[str, list[float]]) -> None:
        self.ages = ages
        self.asked = 0

    def get_metric_data(self, MetricDataQueries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.asked += 1
        return {
            "MetricDataResults": [
                {
                    "Id": query["Id"],
                    "Values": self.ages.get(query["MetricStat"]["Metric"]["Dimensions"][0]["Value"], []),
                }
                for query in MetricDataQueries
            ]
        }


def test_the_newest_age_is_shown_and_asked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    cloudwatch = CloudWatch({"x-tasks": [12.0, 99.0], "x-events": []})
    monkeypatch.setattr("pipeline.aws.clients.cloudwatch", lambda: cloudwatch)
    ages = Ages()
    assert ages.read(["x-events", "x-tasks"]) == {"x-tasks": 12.0}
    assert ages.read(["x-events", "x-tasks"]) == {"x-tasks": 12.0}
    assert cloudwatch.asked == 1


# --- the janitor ---


def test_the_janitor_sweeps_at_the_start_and_again_and_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = threading.Semaphore(0)

    def sweep(_: Settings) -> SimpleNamespace:
        swept.release()
        raise PipelineError("denied")

    monkeypatch.setattr(ours, "sweep", sweep)
    ended = ours.start_janitor(Settings.from_env({}), every_s=0.001)
    try:
        for _ in range(3):
            assert swept.acquire(timeout=DEADLINE_S)
    finally:
        ended.set()
