"""``python -m pipeline.worker``: what ``celery -A pipeline worker`` runs, with the same options, ready sooner.

The command ``celery`` loads every command there is, Flower's and an interactive shell's among them, before it looks
at which one is wanted. Here Celery's own worker command is loaded alone. Celery's global options (``--workdir``,
``--broker``…) are the command ``celery``'s; the settings are the environment's, as always.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from celery import maybe_patch_concurrency


def main() -> None:
    """Ends the process with the worker's exit status."""
    maybe_patch_concurrency()  # as the command does: for the pools that patch the standard library
    gc.disable()  # next to nothing of what is loaded now is garbage
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    from pipeline.celery import app

    for kind in ("worker", "preload"):
        worker.params.extend(app.user_options.get(kind, ()))
    options = sys.argv[1:]
    # Celery reads it again: to detach, to begin anew at SIGHUP, and for the title of the process.
    sys.argv = [str(Path(sys.executable).with_name("celery")), "-A", "pipeline", "worker", *options]
    context = CLIContext(app=app, no_color=bool(os.environ.get("NO_COLOR")), workdir=None)
    worker.main(options, prog_name="python -m pipeline.worker", obj=context, auto_envvar_prefix="CELERY_WORKER")


if __name__ == "__main__":
    main()
