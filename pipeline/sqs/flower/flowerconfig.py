"""Flower's configuration: ``celery -A … flower`` executes this file, and takes its names as options.

The app that Flower runs for is Celery's current app by then (``pipeline.sqs.commands``).
"""

from celery import current_app
from flower.options import options

from pipeline.aws.plain_errors import PlainError
from pipeline.sqs.flower import options as ours

try:
    _installed = current_app.sqs
    globals().update(ours.configure(options))
    ours.install(_installed)
    ours.start_janitor(_installed.settings)
except PlainError as exc:
    raise SystemExit(str(exc)) from None
