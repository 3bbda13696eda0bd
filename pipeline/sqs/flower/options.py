"""Flower for an app on this broker layer: its options, the Broker page for SQS, metrics, and the sweep.

Flower reads a Python file as its configuration (``flowerconfig.py`` here), which calls ``configure``.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import flower.api.control
import flower.events
import flower.urls
import flower.views
from flower.utils import strtobool
from tornado.web import RequestHandler, url

from pipeline.aws.plain_errors import ConfigError, PlainError
from pipeline.sqs.flower import headers
from pipeline.sqs.flower.broker_page import Ages, SqsBroker, SqsBrokerView
from pipeline.sqs.flower.pages import pages_of
from pipeline.sqs.flower.prometheus import BUCKETS, metrics_class
from pipeline.sqs.flower.replies import error_reason
from pipeline.sqs.flower.templates import FILES, STATIC, AddedFile, Templates
from pipeline.sqs.installation import Installation
from pipeline.sqs.monitoring.sweep import sweep
from pipeline.sqs.settings import BrokerSettings

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600
#: The user name for FLOWER_PASSWORD: a secret store generates passwords, not ``user:password``.
USER = "flower"

#: Defaults of Flower's own options. Its environment variables (``FLOWER_MAX_TASKS`` …) and command line override them.
DEFAULTS: dict[str, Any] = {
    # Workers send events by themselves; asking them to, as Flower does every 5 s, would cost a message each time.
    "enable_events": False,
    "purge_offline_workers": 600,
    "max_tasks": 10_000,
    "state_save_interval": 60_000,
    "tasks_columns": "name,args,kwargs,state,result,runtime,received,worker,uuid",
    "task_runtime_metric_buckets": list(BUCKETS),
    "inspect_timeout": 1000.0,
}


def configure(options: Any, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The options to set.

    ``options`` are Flower's, as the environment and the command line have set them so far.
    Raises ``ConfigError`` rather than opening Flower to everyone.
    """
    environ = os.environ if environ is None else environ
    chosen = {name: value for name, value in DEFAULTS.items() if f"FLOWER_{name.upper()}" not in environ}
    if "FLOWER_DB" in environ and "FLOWER_PERSISTENT" not in environ:
        chosen["persistent"] = True
    if environ.get("FLOWER_BASIC_AUTH", "").startswith("{"):
        chosen["basic_auth"] = [_user_of_secret(environ["FLOWER_BASIC_AUTH"])]
    return chosen | access(options, environ)


def _user_of_secret(text: str) -> str:
    """``{"username": …, "password": …}``, as Secrets Manager generates it, as Flower's ``user:password``."""
    try:
        secret = json.loads(text)
        return f"{secret['username']}:{secret['password']}"
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            'FLOWER_BASIC_AUTH is neither user:password nor {"username": …, "password": …}; it is not shown here'
        ) from None


def access(options: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """The options that decide who may see Flower. Without a login it listens on this machine only and shows no buttons.

    Raises ``ConfigError`` if it would be open to everyone.
    """
    if options.basic_auth or options.auth:
        return {}
    if password := environ.get("FLOWER_PASSWORD"):
        return {"basic_auth": [f"{USER}:{password}"]}
    open_api = bool(strtobool(environ.get("FLOWER_UNAUTHENTICATED_API") or "false"))
    if not options.unix_socket and options.address and not _is_loopback(options.address):
        raise ConfigError(
            f"Flower would be open to everyone who reaches {options.address}: set FLOWER_BASIC_AUTH=user:password, "
            "or FLOWER_AUTH and FLOWER_OAUTH2_KEY, …_SECRET and …_REDIRECT_URI; or leave the address out"
        )
    logger.warning(
        "No password is set: Flower listens on this machine only, %s. FLOWER_BASIC_AUTH=user:password opens it.",
        "and anything that runs here may control the workers" if open_api else "and shows no buttons",
    )
    return {"address": options.address or "127.0.0.1", "read_only": options.read_only or not open_api}


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def install(installed: Installation) -> None:
    """Adds the SQS pages, the app's own pages, the response headers and the metrics of tasks to Flower.

    Raises ``ConfigError`` if this version of Flower lacks a place to add them.
    """
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)  # their INFO tells an operator nothing
    pages, ages = pages_of(installed), Ages()
    flower.views.Broker = lambda *_, **__: SqsBroker(installed, ages)
    places = [place for place, route in enumerate(flower.urls.handlers) if getattr(route, "name", None) == "broker"]
    handler = flower.api.control.ControlHandler
    if len(places) != 1 or not hasattr(flower.events, "PrometheusMetrics") or not hasattr(handler, "error_reason"):
        raise ConfigError("this version of Flower is not the one that requirements.txt pins: install that one")
    templates = Templates(
        flower.urls.settings["template_path"],
        [*sorted(STATIC.iterdir()), *pages.scripts],
        pages.tabs,
    )
    flower.urls.settings["template_loader"] = templates
    headers.install(flower.urls.settings)
    flower.urls.handlers[places[0] : places[0] + 1] = [
        url(r"/broker", SqsBrokerView, {"installed": installed, "letters_route": pages.dead_letters}, name="broker"),
        url(r"", PrefixView),
        url(r"/added/(.*)", AddedFile, {"files": templates.files}, name=FILES),
        *pages.routes,
    ]
    flower.events.PrometheusMetrics = metrics_class(installed)
    handler.error_reason = error_reason


class PrefixView(RequestHandler):
    """Serves ``/prefix`` without a slash: after a login under a prefix, Flower redirects there, but has no route."""

    def get(self) -> None:
        self.redirect(self.reverse_url("main"))


def start_janitor(settings: BrokerSettings, every_s: float = SWEEP_EVERY_S) -> threading.Event:
    """Sweeps immediately and then every ``every_s`` seconds, in a thread, until the returned event is set."""
    ended = threading.Event()

    def work() -> None:
        while True:
            try:
                sweep(settings)
            except PlainError as exc:
                logger.warning("%s", exc)
            if ended.wait(every_s):
                return

    threading.Thread(target=work, name="janitor", daemon=True).start()
    return ended
