"""Flower's configuration: ``celery -A pipeline flower`` executes this file, and takes its names as options."""

from flower.options import options

from pipeline.core.errors import PipelineError
from pipeline.core.settings import Settings
from pipeline.sqs.flower import options as ours

try:
    _settings = Settings.from_env()
    globals().update(ours.configure(options))
    ours.install(_settings)
except PipelineError as exc:
    raise SystemExit(str(exc)) from None
ours.start_janitor(_settings)
