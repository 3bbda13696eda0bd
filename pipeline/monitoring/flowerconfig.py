"""Flower's configuration: ``celery -A pipeline flower`` executes this file, and takes its names as options."""

from flower.options import options

from pipeline.config import Settings
from pipeline.errors import PipelineError
from pipeline.monitoring import flower

try:
    _settings = Settings.from_env()
    globals().update(flower.configure(options))
    flower.install(_settings)
except PipelineError as exc:
    raise SystemExit(str(exc)) from None
flower.start_janitor(_settings)
