"""The bridge: raw S3 events in from the events queue, Celery chains out to the tasks queue."""
